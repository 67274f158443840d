"""The one seam between handlers and the event loop: runs jobs, each with a deadline, contextvars and cancellation.

On asyncio and uvloop tasks are reused (`micro_core._runtime.asyncio_workers`); elsewhere every job is a task with a
scope of its own. What a handler may rely on is the same on both.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import sniffio

from micro_core._runtime.asyncio_workers import AsyncioWorkers
from micro_core._runtime.jobs import Job, Runner
from micro_core.tasks import OwnedTasks

__all__ = ["clock", "effective_deadline", "open_runner"]

CLOSING_SECONDS = 5.0
"""How long a job that shields itself from cancellation may hold up the end of its runner (trio waits for it)."""


def clock() -> Callable[[], float]:
    """Return the running event loop's clock, the one that `anyio.current_time` reads.

    That of asyncio's own loops is `time.monotonic`, which is returned itself: half of the time of asking the loop.
    """
    if sniffio.current_async_library() == "asyncio":
        loop = asyncio.get_running_loop()
        return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
    return anyio.current_time


def effective_deadline() -> Callable[[], float]:
    """Return `anyio.current_effective_deadline` without its search for the event loop, half of its time."""
    return anyio.lowlevel.current_token().backend_class.current_effective_deadline


@asynccontextmanager
async def open_runner(closing_seconds: float = CLOSING_SECONDS) -> AsyncIterator[Runner]:
    """Run jobs until the context is left, which cancels those that are not done."""
    if sniffio.current_async_library() == "asyncio":
        workers = AsyncioWorkers(closing_seconds)
        try:
            yield workers
        finally:
            await workers.aclose()
    else:
        async with OwnedTasks() as tasks:
            yield _TaskEach(tasks)


class _TaskEach(Runner):
    """A task and a cancel scope for every job."""

    def __init__(self, tasks: OwnedTasks) -> None:
        self._tasks = tasks

    def submit(self, job: Job) -> None:
        self._tasks.start_soon(self._run, job)

    async def aclose(self) -> None:
        await self._tasks.aclose()

    async def _run(self, job: Job) -> None:
        with anyio.CancelScope(deadline=job.deadline) as scope:
            job.waits(scope)
            await job.run()
