"""What a client learns about its nodes: who fails is left out for a while, then tried once (docs/selector.md)."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["FIRST_EJECTION", "LONGEST_EJECTION", "Health"]

FIRST_EJECTION = 0.25
"""Seconds that a node is left out for the first time; doubled each time that it fails again."""

LONGEST_EJECTION = 30.0
JITTER = 0.2
FAILURES_IN_A_ROW = 2
"""Resets or attempt timeouts until a node is left out; a refused connect is enough by itself."""


class Health:
    """How one node has done lately."""

    __slots__ = ("ejections", "failures", "probing", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.ejections = 0
        self.until = 0.0
        """On the caller's clock: left out until then; 0 where it is not."""
        self.probing = False

    @property
    def ejected(self) -> bool:
        """Tell whether the node is left out, or being tried once."""
        return self.until > 0

    def succeeded(self) -> bool:
        """Note an answer; return whether the node was left out until now."""
        was_ejected = self.ejected
        self.failures = self.ejections = 0
        self.until, self.probing = 0.0, False
        return was_ejected

    def failed(self, refused: bool, now: float, random: Callable[[], float], may_eject: bool) -> bool:
        """Note a failure; return whether the node is left out from now on."""
        self.failures += 1
        if self.probing:
            self.probing = False
        elif self.ejected or not (refused or self.failures >= FAILURES_IN_A_ROW) or not may_eject:
            return False
        seconds = min(FIRST_EJECTION * 2.0 ** min(self.ejections, 16), LONGEST_EJECTION)
        self.until = now + seconds * (1 + JITTER * (2 * random() - 1))
        self.ejections += 1
        return True

    def due(self, now: float) -> bool:
        """Tell whether the node is to be tried once."""
        return not self.probing and 0 < self.until <= now

    def probe(self) -> None:
        """Let one call through."""
        self.probing = True
        self.until = math.inf

    def release(self, now: float) -> None:
        """Note that the one call told nothing: another may be let through."""
        self.probing = False
        self.until = now
