"""The signals that ask a process to stop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import anyio
import sniffio

__all__ = ["ONE", "stop_signals", "teller"]

ONE = 0.1
"""Seconds within which the same signal counts once: ``timeout`` sends it to the process and to its group."""


def _ignore() -> None:
    """Do nothing."""


@contextmanager
def stop_signals(at_once: Callable[[], object] = _ignore) -> Iterator[AsyncIterator[signal.Signals]]:
    """Receive SIGTERM and SIGINT in place of what they do by themselves, as long as the context is open.

    ``at_once`` is called for each in Python's own handler, also while a handler holds the event loop up.
    """
    send, receive = anyio.create_memory_object_stream[signal.Signals](math.inf)
    tell = teller()
    last: dict[int, float] = {}

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        before, last[number] = last.get(number, -math.inf), now
        if now - before >= ONE:
            at_once()
            tell(lambda: send.send_nowait(signal.Signals(number)))

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with send, receive:
            yield receive
    finally:
        for number, before in previous.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)


def teller() -> Callable[[Callable[[], object]], object]:
    """Return what has the event loop call a function soon, from a signal's handler or another thread."""
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
    import asyncio

    return asyncio.get_running_loop().call_soon_threadsafe
