"""Several processes that run the same program and share nothing: started, restarted when they die, stopped together.

Each worker is the program started anew, with its own interpreter and arguments, and registers a node of its own.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress

import anyio
import anyio.abc
import msgspec

from micro_core.config import Settings
from micro_core.errors import ConfigError

__all__ = ["Worker", "check_workers", "supervise"]

log = logging.getLogger("micro.service")

VARIABLE = "MICRO_WORKER"
"""Tells a worker its number and the pipe that ends with its supervisor: ``2:7``."""
YOUNG = 5.0
"""Seconds. A worker that fails earlier, before any has lived so long, will fail again: the program is wrong."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0


class Worker(msgspec.Struct, frozen=True):
    """What a worker knows of itself."""

    number: int
    pipe: int

    @classmethod
    def of_this_process(cls) -> Worker | None:
        """Return this process as a worker, where a supervisor started it; what it starts itself is none."""
        number, _, pipe = os.environ.pop(VARIABLE, "").partition(":")
        return cls(int(number), int(pipe)) if number else None

    async def supervisor_gone(self) -> None:
        """Return when the supervisor has ended, however it did."""
        await anyio.wait_readable(self.pipe)


def check_workers(settings: Settings) -> None:
    """Raise `ConfigError` where several workers would share what belongs to one."""
    if settings.workers == 1:
        return
    if settings.server_id:
        raise _own_each(settings, "server_id", "an id", "leave it out")
    for name in ("server_address", "server_advertise"):
        address = getattr(settings, name)
        if ":" in address and not address.endswith((":0", "]")):
            raise _own_each(settings, name, "an address", "write it with port 0")


def _own_each(settings: Settings, name: str, what: str, instead: str) -> ConfigError:
    return ConfigError(
        f"workers={settings.workers} (from {settings.source('workers')}): each has {what} of its own, "
        f"so that {name}={getattr(settings, name)!r} (from {settings.source(name)}) cannot be; {instead}"
    )


def supervise(count: int) -> None:
    """Run that many workers until SIGTERM or SIGINT, then stop them; a second signal kills them.

    Raises SystemExit with a worker's status when workers fail as soon as they are started.
    """
    status = anyio.run(_Supervisor(count).run)
    if status:
        raise SystemExit(status)


class _Supervisor:
    def __init__(self, count: int) -> None:
        self._count = count
        self._running: dict[int, anyio.abc.Process] = {}
        self._stopping = anyio.Event()
        self._grown_up = False
        self._status = 0

    async def run(self) -> int:
        reading, writing = os.pipe()  # the writing end is never used: it ends with this process
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._listen)
                async with anyio.create_task_group() as workers:
                    for number in range(1, self._count + 1):
                        workers.start_soon(self._keep, number, reading)
                tasks.cancel_scope.cancel()
        finally:
            os.close(reading)
            os.close(writing)
        return self._status

    async def _listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            task_status.started()
            async for _ in received:
                self._stop(signal.SIGKILL if self._stopping.is_set() else signal.SIGTERM)

    def _stop(self, how: signal.Signals) -> None:
        log.info("stopping %d workers", len(self._running))
        self._stopping.set()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.send_signal(how)

    async def _keep(self, number: int, pipe: int) -> None:
        """Start a worker again and again until all are to stop."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = anyio.current_time()
            status = await self._run_one(number, pipe)
            age = anyio.current_time() - started
            self._grown_up = self._grown_up or age >= YOUNG
            if self._stopping.is_set():
                return
            if status > 0 and not self._grown_up:  # what a signal ended is not wrong by itself
                log.error("worker %d failed as soon as it was started, with status %d: giving up", number, status)
                self._status = status
                self._stop(signal.SIGTERM)
                return
            pause = FIRST_PAUSE if age >= YOUNG else min(pause * 2, LONGEST_PAUSE)
            log.warning("worker %d ended with status %d: started again in %.1f s", number, status, pause)
            with anyio.move_on_after(pause):
                await self._stopping.wait()

    async def _run_one(self, number: int, pipe: int) -> int:
        async with await anyio.open_process(
            [sys.executable, *sys.orig_argv[1:]],
            stdin=None,
            stdout=None,
            stderr=None,
            env={**os.environ, VARIABLE: f"{number}:{pipe}"},
            pass_fds=[pipe],
            start_new_session=True,  # a terminal's signals reach the supervisor alone, which hands them on
        ) as process:
            self._running[number] = process
            try:
                if self._stopping.is_set():
                    process.send_signal(signal.SIGTERM)
                return await process.wait()
            finally:
                del self._running[number]
