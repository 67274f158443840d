"""How long to wait before the next attempt: full jitter, so that many who failed together do not come back together."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["backoff"]


def backoff(failures: int, random: Callable[[], float], *, first: float = 0.1, most: float = 5.0) -> float:
    """Return seconds to wait after so many failures in a row: any time below a bound that doubles each time."""
    return random() * min(most, first * 2.0 ** min(failures - 1, 30))
