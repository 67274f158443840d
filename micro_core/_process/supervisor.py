"""Several processes that run the same program and share nothing: started, restarted when they die, stopped together.

Each worker is the program started anew, with its own interpreter and arguments, and registers a node of its own.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
from contextlib import suppress

import anyio
import anyio.abc
import msgspec

from micro_core._process.signals import stop_signals
from micro_core.address import has_port
from micro_core.config import Settings
from micro_core.errors import ConfigError

__all__ = ["Worker", "check_workers", "supervise"]

log = logging.getLogger("micro.service")

VARIABLE = "MICRO_WORKER"
"""Tells a worker its number, and the socket to its supervisor with its inode: ``2:7:4711``."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
LONG_LIFE = 5.0
"""Seconds after which a worker that dies is started again without a longer pause."""
STOP_SECONDS = 30.0
"""How long workers may take to stop, beyond linger and drain time: longer than a service by itself."""

_INHERITS_SOCKETS = os.name == "posix"


class Worker(msgspec.Struct, frozen=True):
    """What a worker knows of itself."""

    number: int
    supervisor: int
    """A socket that all workers share: a byte says that one serves, end of file that the supervisor is gone."""

    @classmethod
    def of_this_process(cls) -> Worker | None:
        """Return this process as a worker, where a supervisor started it; what it starts itself is none."""
        found = re.fullmatch(r"(\d+):(\d+):(\d+)", os.environ.get(VARIABLE, ""))
        if found is None:
            return None
        del os.environ[VARIABLE]
        number, supervisor, inode = map(int, found.groups())
        return cls(number, supervisor) if _inode(supervisor) == inode else None

    def tell_serving(self) -> None:
        """Tell the supervisor that this worker serves."""
        with suppress(OSError):  # the supervisor has ended, which `supervisor_gone` notices
            os.write(self.supervisor, b"\n")

    async def supervisor_gone(self) -> None:
        """Return when the supervisor has ended, however it did."""
        await anyio.wait_readable(self.supervisor)


def _inode(descriptor: int) -> int | None:
    try:
        return os.fstat(descriptor).st_ino
    except OSError:  # what a worker started before it ran: it inherits the variable and not the socket
        return None


def check_workers(settings: Settings) -> None:
    """Raise `ConfigError` where several workers would share what belongs to one, or the system has no such workers."""
    if settings.workers == 1:
        return
    if not _INHERITS_SOCKETS:
        raise ConfigError(
            f"workers={settings.workers} (from {settings.source('workers')}) needs processes that inherit a socket, "
            "which this system has not: leave it out, and start the program several times"
        )
    if settings.server_id:
        raise _own_each(settings, "server_id", "an id", "leave it out")
    if not settings.server_address.endswith(":0"):
        raise _own_each(settings, "server_address", "an address", "write it with port 0")
    if has_port(settings.server_advertise):
        raise _own_each(settings, "server_advertise", "an address", "leave its port out")


def _own_each(settings: Settings, name: str, what: str, instead: str) -> ConfigError:
    return ConfigError(
        f"workers={settings.workers} (from {settings.source('workers')}): each has {what} of its own, "
        f"so that {name}={getattr(settings, name)!r} (from {settings.source(name)}) cannot be; {instead}"
    )


def supervise(count: int, patience: float) -> None:
    """Run that many workers until SIGTERM or SIGINT, then stop them; a second signal kills them.

    So do ``patience``, the seconds of their linger and drain time, and `STOP_SECONDS` after the first.
    Raises SystemExit with a worker's status when one ends before any has served: the program is wrong.
    """
    status = anyio.run(_Supervisor(count, patience + STOP_SECONDS).run)
    if status:
        raise SystemExit(status)


class _Supervisor:
    def __init__(self, count: int, patience: float) -> None:
        self._count = count
        self._patience = patience
        self._running: dict[int, anyio.abc.Process] = {}
        self._stopping = anyio.Event()
        self._served = False
        self._status = 0

    async def run(self) -> int:
        own, theirs = socket.socketpair()
        with own, theirs:
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._listen)
                tasks.start_soon(self._notice_service, own)
                tasks.start_soon(self._kill_in_time)
                async with anyio.create_task_group() as workers:
                    for number in range(1, self._count + 1):
                        workers.start_soon(self._keep, number, theirs.fileno())
                tasks.cancel_scope.cancel()
        return self._status

    async def _notice_service(self, own: socket.socket) -> None:
        while True:
            await anyio.wait_readable(own)
            own.recv(4096)
            self._served = True

    async def _listen(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with stop_signals() as received:
            task_status.started()
            async for _ in received:
                if self._stopping.is_set():
                    log.warning("second signal: killing %d workers", len(self._running))
                    self._kill()
                else:
                    self._stop()

    async def _kill_in_time(self) -> None:
        await self._stopping.wait()
        await anyio.sleep(self._patience)
        log.warning("killing %d workers, which have not stopped within %g s", len(self._running), self._patience)
        self._kill()

    def _stop(self) -> None:
        if self._running:
            log.info("stopping %d workers", len(self._running))
        self._stopping.set()
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.terminate()

    def _kill(self) -> None:
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.kill()

    async def _keep(self, number: int, supervisor: int) -> None:
        """Start a worker again and again until all are to stop."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = anyio.current_time()
            status = await self._run_one(number, supervisor)
            age = anyio.current_time() - started
            if self._stopping.is_set():
                return
            if status >= 0 and not self._served:  # what a signal ended is not wrong by itself
                log.error("worker %d ended before any served, with status %d: giving up", number, status)
                self._status = status or 1
                self._stop()
                return
            if age >= LONG_LIFE:
                pause = FIRST_PAUSE
            log.warning("worker %d ended with status %d: started again in %.1f s", number, status, pause)
            with anyio.move_on_after(pause):
                await self._stopping.wait()
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _run_one(self, number: int, supervisor: int) -> int:
        async with await anyio.open_process(
            [sys.executable, *sys.orig_argv[1:]],
            stdin=None,
            stdout=None,
            stderr=None,
            env={**os.environ, VARIABLE: f"{number}:{supervisor}:{_inode(supervisor)}"},
            pass_fds=[supervisor],
            start_new_session=True,  # a terminal's signals reach the supervisor alone, which hands them on
        ) as process:
            self._running[number] = process
            try:
                if self._stopping.is_set():
                    process.terminate()
                return await process.wait()
            finally:
                del self._running[number]
