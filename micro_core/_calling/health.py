"""What a client learns about its nodes: outlier ejection, and probes that bring nodes back (docs/selector.md)."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["FIRST_EJECTION", "LONGEST_EJECTION", "Health"]

FIRST_EJECTION = 0.25
"""Seconds of a node's first ejection; doubled each time that it fails again."""

LONGEST_EJECTION = 30.0
JITTER = 0.2
FAILURES_IN_A_ROW = 2
"""Consecutive attempts that were reset, unanswered or answered with nonsense, until a node is ejected."""


class Health:
    """How one node has done lately.

    An ejected node gets no calls while there are others. When its time is over it is probed beside the calls: an
    answer brings it back on probation, where one failure more ejects it for longer; an answered call clears it.
    """

    __slots__ = ("ejections", "failures", "probing", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.ejections = 0
        self.until = 0.0
        """When the ejection ends, on the caller's clock; 0 where there is none."""
        self.probing = False

    @property
    def ejected(self) -> bool:
        """Tell whether the node is ejected; one that is being probed (half-open) still is."""
        return self.until > 0

    def succeeded(self) -> bool:
        """Note an answer; return whether the node was ejected until now."""
        was_ejected = self.ejected
        if self.probing:
            self.failures = FAILURES_IN_A_ROW - 1
        else:
            self.failures = self.ejections = 0
        self.until, self.probing = 0.0, False
        return was_ejected

    def failed(self, refused: bool, now: float, random: Callable[[], float], may_eject: bool) -> bool:
        """Note a failure; return whether the node is ejected from now on.

        Where nobody listens, there is no doubt: it is ejected at once. ``may_eject`` is about all other evidence.
        """
        self.failures += 1
        if self.probing:
            self.probing = False
        elif self.ejected or not (refused or (may_eject and self.failures >= FAILURES_IN_A_ROW)):
            return False
        seconds = min(FIRST_EJECTION * 2.0 ** min(self.ejections, 16), LONGEST_EJECTION)
        self.until = now + seconds * (1 + JITTER * (2 * random() - 1))
        self.ejections += 1
        return True

    def due(self, now: float) -> bool:
        """Tell whether the node is to be probed."""
        return not self.probing and 0 < self.until <= now

    def probe(self) -> None:
        """Note that a probe is under way."""
        self.probing = True
        self.until = math.inf

    def release(self, now: float) -> None:
        """Note that the probe told nothing: another may follow."""
        self.probing = False
        self.until = now + FIRST_EJECTION
