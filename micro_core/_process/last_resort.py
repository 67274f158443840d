"""The end of a process whose code does not end: a handler that swallows its cancellation, a thread, a blocked loop."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
import traceback
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

__all__ = ["AFTER_DRAIN", "AT_ONCE", "STATUS", "LastResort"]

log = logging.getLogger("micro.service")

AFTER_DRAIN = 5.0
"""Seconds beyond linger and drain time that a stop may take before the process is ended."""
AT_ONCE = 1.0
"""Seconds after a second signal for what can still be cancelled."""
STATUS = 1
"""The status of a process that was ended this way: with 0 everything came to its end."""


class LastResort:
    """Ends the process ``seconds`` after the first signal, and at once after a second, where nothing else does.

    A context manager round the event loop; leaving it waits for threads that the program started inside, no longer than
    that. It is a thread, for the event loop may be what is stuck.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._signals: SimpleQueue[bool] = SimpleQueue()
        self._stopping = False
        self._before: set[threading.Thread] = set()
        self._thread = threading.Thread(target=self._watch, name="micro last resort", daemon=True)

    def signal_came(self) -> None:
        """Take note of a signal; safe in its handler."""
        self._stopping = True
        self._signals.put(True)

    def __enter__(self) -> Self:
        self._before = {*threading.enumerate()}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._stopping:
            for thread in self._left():
                thread.join()  # or else the watching thread ends the process
        self._signals.put(False)
        self._thread.join()

    def _left(self) -> list[threading.Thread]:
        return [one for one in threading.enumerate() if not one.daemon and one not in self._before]

    def _watch(self) -> None:
        deadline = math.inf
        while True:
            left = deadline - time.monotonic()
            try:
                came = self._signals.get(timeout=None if left == math.inf else max(left, 0))
            except Empty:
                self._end()
                return
            if not came:
                return
            deadline = min(deadline, time.monotonic() + (self._seconds if deadline == math.inf else AT_ONCE))

    def _end(self) -> None:
        by_force = threading.Timer(1, os._exit, (STATUS,))  # where a lock is never let go, or there is no output
        by_force.daemon = True
        by_force.start()
        frames = sys._current_frames()
        for thread in threading.enumerate():
            if thread is not self._thread and (frame := frames.get(thread.ident or 0)):
                log.error("%s does not end:\n%s", thread.name, "".join(traceback.format_stack(frame)))
        log.error("ending the process, with status %d", STATUS)
        logging.shutdown()
        sys.stdout.flush()
        os._exit(STATUS)
