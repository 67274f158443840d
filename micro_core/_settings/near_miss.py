"""What a misspelt name was meant to be, for error messages."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean", "near_miss"]


def near_miss(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the name among ``known`` that is most like ``name``, or None where none is like it."""
    import difflib  # by far the most of this module, and needed where a name is wrong

    folded = {word.lower(): word for word in sorted(known, reverse=True)}
    found = difflib.get_close_matches(name.lower()[:100], folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or nothing where no known name is like ``name``."""
    found = near_miss(name, known)
    return f"; did you mean {found!r}?" if found else ""
