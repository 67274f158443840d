"""Frames that cost their sender nothing and us something: how many a peer may send (RFC 9113 §10.5)."""

from __future__ import annotations

from collections.abc import Callable

from .broken import ConnectionBroken
from .frames import Code

__all__ = ["Allowance", "Floods"]


class Allowance:
    """So many at once, and so many a second after that; what was honest work can earn some back."""

    __slots__ = ("_at", "_burst", "_left", "_name", "_rate", "_time")

    def __init__(self, name: str, burst: float, rate: float, time: Callable[[], float]) -> None:
        self._name = name
        self._burst = self._left = burst
        self._rate = rate
        self._time = time
        self._at = time()

    def take(self) -> None:
        """Take one. Raises `ConnectionBroken` where none is left."""
        self._left -= 1
        if self._left < 0:
            now = self._time()
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left < 0:
                raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, f"too many frames of one kind: {self._name}")

    def earn(self, count: float = 1) -> None:
        """Give some back."""
        self._left = min(self._burst, self._left + count)


class Floods:
    """What the peer of one connection may do."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.resets = Allowance("RST_STREAM", 1000, 500, time)
        """Two requests that were answered earn one: who gives up one of three calls is no attacker."""
        self.made = Allowance("streams that had to be refused", 200, 20, time)
        self.pings = Allowance("PING", 50, 5, time)
        """Free after a frame that carries something: grpc-go asks so how wide the path is while data flows."""
        self.settings = Allowance("SETTINGS", 50, 1, time)
        self.windows = Allowance("WINDOW_UPDATE", 1000, 100, time)
        """Each DATA frame that was sent earns two."""
        self.small = Allowance("DATA with next to nothing", 500, 50, time)
        self.others = Allowance("frames that mean nothing here", 200, 20, time)
