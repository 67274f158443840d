"""The signals that ask a process to stop."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Self

import anyio

__all__ = ["EachOnce", "stop_signals"]

ONE = 0.1
"""Seconds within which a signal that comes again is one: ``timeout`` sends it to the process and to its group."""


@contextmanager
def stop_signals() -> Iterator[EachOnce]:
    """Receive SIGTERM and SIGINT in place of what they do by themselves, as long as the context is open."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        yield EachOnce(received)


class EachOnce:
    """The signals of another iterator, without those that come again at once."""

    def __init__(self, received: AsyncIterator[signal.Signals]) -> None:
        self._received = received
        self._last: dict[signal.Signals, float] = {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> signal.Signals:
        while True:
            each = await anext(self._received)
            now = anyio.current_time()
            last, self._last[each] = self._last.get(each, -math.inf), now
            if now - last >= ONE:
                return each
