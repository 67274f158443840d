"""When a call may be sent again, and how often all calls together may be."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum

from micro_core.backoff import backoff
from micro_core.errors import (
    ConnectFailed,
    Executed,
    LimitExceeded,
    MicroError,
    NotFound,
    ProtocolError,
    Timeout,
    Unavailable,
)

__all__ = ["Budget", "Verdict", "is_stopping", "judge", "pause_before"]

FIRST_BACKOFF = 0.01
LONGEST_BACKOFF = 1.0


class Verdict(Enum):
    """What becomes of a call after an attempt of it failed."""

    FINAL = "the caller is told"
    ELSEWHERE = "nobody listens, or who listens is leaving: it was not executed, and is free to go to any other node"
    SHED = "it was not executed: another node may have room, within the budget"
    LACKING = "the node lacks the endpoint, which one of another version may have"
    AGAIN = "it may have been executed, and executing it twice does no harm"
    MISDIRECTED = "the node's address has changed hands"


def judge(error: MicroError, service: str, idempotent: bool) -> Verdict:
    """Return what an error says of a call of ``service``, and whether it may be sent again."""
    if error.executed is Executed.YES:
        return Verdict.FINAL
    if error.executed is Executed.MAYBE:
        transient = isinstance(error, Unavailable | Timeout | ProtocolError | LimitExceeded)
        return Verdict.AGAIN if idempotent and transient else Verdict.FINAL
    if isinstance(error, NotFound):
        return Verdict.MISDIRECTED if is_misdirected(error, service) else Verdict.LACKING
    if isinstance(error, ConnectFailed | Timeout):
        return Verdict.ELSEWHERE
    if isinstance(error, LimitExceeded) and error.code != LimitExceeded.default_code:
        return Verdict.FINAL  # a request that is too large here is too large everywhere
    return Verdict.SHED if isinstance(error, Unavailable | ProtocolError | LimitExceeded) else Verdict.FINAL


def is_misdirected(error: MicroError, service: str) -> bool:
    """Tell whether a service other than ``service`` refused a call (docs/protocol.md §3): the address changed hands."""
    return isinstance(error, NotFound) and error.executed is Executed.NO and error.id not in ("", service)


def is_stopping(error: MicroError) -> bool:
    """Tell whether the node said that it is stopping; a `Timeout` of our own side names no one as its maker."""
    return isinstance(error, Timeout) and error.executed is Executed.NO and error.id != ""


def pause_before(retry: int, random: Callable[[], float]) -> float:
    """Return the seconds to wait before a retry: none before the first, then a backoff."""
    return 0.0 if retry <= 1 else backoff(retry - 1, random, first=FIRST_BACKOFF, longest=LONGEST_BACKOFF)


class Budget:
    """A token bucket that bounds all retries of a client to a share of its calls.

    20 % of the calls and 10 a second, saved up over 10 s: with 500 calls/s and one of three nodes frozen a window of
    1 s refuses 71 retries, one of 10 s none.
    """

    __slots__ = ("_calls", "_now", "_per_second", "_rate", "_share", "_since", "_window", "tokens")

    def __init__(
        self, now: Callable[[], float], *, share: float = 0.2, per_second: float = 10.0, window: float = 10.0
    ) -> None:
        self._now = now
        self._share = share
        self._per_second = per_second
        self._window = window
        self.tokens = per_second * window
        """Retries that are left, as far as was worked out."""
        self._since = now()
        self._calls = 0
        self._rate = 0.0

    def earn(self) -> None:
        """Count a call."""
        self._calls += 1

    def spend(self) -> bool:
        """Take the token for one retry; False where the budget is used up."""
        if self.tokens < 1:
            self._settle()
            if self.tokens < 1:
                return False
        self.tokens -= 1
        return True

    def give_back(self) -> None:
        """Return the token of a retry that was not needed."""
        self.tokens += 1

    def _settle(self) -> None:
        """Turn the calls and the time since the last retry into tokens, no more than a window's worth."""
        now = self._now()
        seconds = now - self._since
        if seconds > 0:
            self._rate += (self._calls / seconds - self._rate) * (1 - math.exp(-seconds / self._window))
            most = self._window * (self._per_second + self._share * self._rate)
            self.tokens = min(self.tokens + seconds * self._per_second + self._calls * self._share, most)
            self._since, self._calls = now, 0
