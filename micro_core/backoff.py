"""How long to wait before the next attempt: full jitter, so that many who failed together do not come back together."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["backoff"]

_DOUBLINGS = 30
"""After which the bound is the longest anyway; more would overflow."""


def backoff(failures: int, random: Callable[[], float], *, first: float, longest: float) -> float:
    """Return seconds to wait after ``failures`` in a row, 1 or more: any time below a bound that doubles each time.

    ``first`` is the bound after one failure, ``longest`` that after many, both in seconds; ``random`` returns a number
    from 0 to 1.
    """
    return random() * min(longest, first * 2.0 ** min(failures - 1, _DOUBLINGS))
