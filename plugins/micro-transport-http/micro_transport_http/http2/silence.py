"""Whether a peer that owes something is still there: one that is silent is asked, and given up when it stays silent."""

from __future__ import annotations

from enum import Enum

__all__ = ["LOOK_SECONDS", "Silence", "Verdict"]

ASK_SECONDS = 12.0
"""How long a peer may be silent before it is asked, and then until it is given up."""
LOOK_SECONDS = 4.0
"""How often to look: a path that is dead is noticed within 32 s."""


class Verdict(Enum):
    """What to do about a peer."""

    WAIT = "wait"
    ASK = "ask"
    """Send it a PING."""
    GONE = "gone"
    """End the connection."""


class Silence:
    """How long nothing has come from a peer."""

    __slots__ = ("_asked", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        """When something came last, or when the peer began to owe something."""
        self._asked: float | None = None

    def broken(self, now: float) -> None:
        """Take note that something came."""
        self.since = now
        self._asked = None

    def begins(self, now: float) -> None:
        """Take note that the peer owes something from now on."""
        if self._asked is None:
            self.since = now

    def asked(self, now: float) -> None:
        """Take note that the peer was asked."""
        self._asked = now

    def verdict(self, now: float) -> Verdict:
        """Say what to do about a peer that owes something."""
        if self._asked is not None:
            return Verdict.GONE if now - self._asked >= ASK_SECONDS else Verdict.WAIT
        if now - self.since < ASK_SECONDS:
            return Verdict.WAIT
        self._asked = now
        return Verdict.ASK
