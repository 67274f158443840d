"""A warning where code holds the event loop up: with it wait all calls, streams and timers of the process."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType

from micro_core._process.signals import teller
from micro_core.context import Context

__all__ = ["loop_watched"]

log = logging.getLogger("micro.service")

EVERY = 10.0
"""Seconds between two warnings: code that blocks the event loop does so again and again."""
_LOOPS = ("asyncio", "uvloop", "trio", "anyio")
"""Where the innermost frame is theirs, nothing holds the loop up: the process was not given the processor."""


@contextmanager
def loop_watched(seconds: float) -> Iterator[None]:
    """Warn, while the context is open, where the running event loop is held up for ``seconds``; 0 never warns.

    A thread asks the loop for a sign of life twice in that time, which costs calls nothing.
    """
    if not seconds:
        yield
        return
    watch = _Watch(seconds, teller(), threading.get_ident())
    threading.Thread(target=watch.run, name="micro loop watch", daemon=True).start()
    try:
        yield
    finally:
        watch.stopped.set()


class _Watch:
    def __init__(self, seconds: float, tell: Callable[[Callable[[], object]], object], loop_thread: int) -> None:
        self._seconds = seconds
        self._tell = tell
        self._loop_thread = loop_thread
        self._warned = -math.inf
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(self._seconds / 2):
            answered = threading.Event()
            try:
                self._tell(answered.set)
            except RuntimeError:  # the event loop has ended
                return
            if not answered.wait(self._seconds) and not self.stopped.is_set():
                self._warn()
            while not answered.wait(self._seconds) and not self.stopped.is_set():
                pass

    def _warn(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)
        now = time.monotonic()
        if frame is None or _is_of_a_loop(frame) or now - self._warned < EVERY:
            return
        self._warned = now
        log.warning(
            "%s holds the event loop up for more than %g s: nothing else is done meanwhile; "
            "have it wait with await, or compute in a thread:\n%s",
            _handler_in(frame),
            self._seconds,
            "".join(traceback.format_stack(frame)),
        )


def _is_of_a_loop(frame: FrameType) -> bool:
    file = PurePath(frame.f_code.co_filename)
    return file.name == "selectors.py" or any(loop in file.parts for loop in _LOOPS)


def _handler_in(frame: FrameType) -> str:
    """Return the name of the endpoint or topic that is being handled, by the context in one of the frames."""
    each: FrameType | None = frame
    while each is not None:
        for value in tuple(each.f_locals.values()):
            if isinstance(value, Context):
                return f"handler {value.endpoint!r}"
        each = each.f_back
    return f"{frame.f_code.co_qualname} in line {frame.f_lineno} of {frame.f_code.co_filename}"
