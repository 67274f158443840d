"""The one seam between handlers and the event loop: runs jobs, each with a deadline, contextvars and cancellation.

On asyncio and uvloop workers are reused: a job that never waits costs no task, timer or cancel scope
(docs/adr/0001-workers.md). Elsewhere every job is a task with a scope of its own. What a handler may rely on is the
same on both.
"""

from __future__ import annotations

import asyncio
import logging
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from typing import Any, Protocol

import anyio
import sniffio

from micro_core._owned_tasks import OwnedTasks

__all__ = ["Job", "Runner", "clock", "open_runner"]

log = logging.getLogger("micro.server")

CLOSING_SECONDS = 5.0
"""How long a job that shields itself from cancellation may hold up the end of its runner (trio waits for it)."""

CALLS_PER_TURN = 64
"""How many jobs a worker finishes before it lets others have the event loop."""


class Job(Protocol):
    """One piece of work. Its coroutine raises nothing but the cancellation that the runner caused."""

    deadline: float
    """On the clock of the event loop; `math.inf` for none."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Return the coroutine that does the work."""

    def waits(self, scope: anyio.CancelScope) -> None:
        """Note that the job waits for something, and the scope that cancels it and nobody else."""


class Runner(ABC):
    """Runs jobs."""

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Run ``job`` soon."""


def clock() -> Callable[[], float]:
    """Return the running event loop's clock, the one that `anyio.current_time` reads."""
    if sniffio.current_async_library() == "asyncio":
        return asyncio.get_running_loop().time
    return anyio.current_time


@asynccontextmanager
async def open_runner(closing_seconds: float = CLOSING_SECONDS) -> AsyncIterator[Runner]:
    """Run jobs until the context is left, which cancels those that are not done."""
    if sniffio.current_async_library() == "asyncio":
        workers = _Workers(closing_seconds)
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

    async def _run(self, job: Job) -> None:
        with anyio.CancelScope(deadline=job.deadline) as scope:
            job.waits(scope)
            await job.run()


class _Workers(Runner):
    """Tasks that run jobs one after another, inside a cancel scope that is replaced only after it was cancelled.

    The first step of a job is made by the worker itself, in a copied context. A job that waits keeps its worker;
    another is woken for the rest of the queue.
    """

    def __init__(self, closing_seconds: float) -> None:
        self._closing_seconds = closing_seconds
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._queue: deque[Job] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._scopes: set[anyio.CancelScope] = set()
        self._woken = False
        self._closing = False

    def submit(self, job: Job) -> None:
        self._queue.append(job)
        if not self._woken:
            self._wake()

    def _wake(self) -> None:
        self._woken = True
        while self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                return
        task = self._loop.create_task(self._work(), context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while not self._closing:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    while await self._run_queue(scope):
                        idle = self._loop.create_future()
                        self._idle.append(idle)
                        await idle
                finally:
                    self._scopes.discard(scope)

    async def _run_queue(self, scope: anyio.CancelScope) -> bool:
        """Run jobs until none is left; return whether the worker may wait for more in the same scope."""
        queue, turn, task = self._queue, CALLS_PER_TURN, asyncio.current_task()
        while queue:
            job = queue.popleft()
            coroutine, variables = job.run(), self._context.copy()
            try:
                waiting_for = variables.run(coroutine.send, None)
            except StopIteration:
                turn -= 1
                if not turn or (task is not None and task.cancelling()):
                    turn = CALLS_PER_TURN
                    await _give_way(task)
                continue
            except BaseException:  # what stops a process, or a job that breaks its promise, takes this worker alone
                self._woken = False
                if queue:
                    self._wake()
                raise
            self._woken = False
            if queue:
                self._wake()
            job.waits(scope)
            deadline = job.deadline
            timer = None if deadline == math.inf else self._loop.call_at(deadline, scope.cancel)
            try:
                await _Rest(coroutine, waiting_for, variables)
            finally:
                if timer is not None:
                    timer.cancel()
            if scope.cancel_called:
                return False
            if task is not None and task.cancelling():
                await _give_way(task)
            turn = CALLS_PER_TURN
        self._woken = False
        return not self._closing

    async def aclose(self) -> None:
        """Cancel what runs, wait for it, bounded where it shields itself, and end the workers."""
        self._closing = True
        self._queue.clear()
        for scope in tuple(self._scopes):
            scope.cancel()
        for idle in self._idle:
            if not idle.done():
                idle.set_result(None)
        if not self._tasks:
            return
        with anyio.CancelScope(shield=True):
            stubborn = (await asyncio.wait(tuple(self._tasks), timeout=self._closing_seconds))[1]
            for task in stubborn:
                task.cancel()
            if stubborn:
                log.warning(
                    "%d handlers shield themselves and were cancelled after %g s", len(stubborn), self._closing_seconds
                )
                await asyncio.wait(stubborn, timeout=self._closing_seconds)


async def _give_way(task: asyncio.Task[Any] | None) -> None:
    """Let others have the event loop, and take in a cancellation that a job left behind by cancelling its own task."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass
    while task is not None and task.cancelling():
        task.uncancel()


class _Rest:
    """Await what is left of a coroutine after its first step, each step inside its own contextvars."""

    __slots__ = ("_coroutine", "_variables", "_waiting_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waiting_for: Any, variables: Context) -> None:
        self._coroutine = coroutine
        self._waiting_for = waiting_for
        self._variables = variables

    def __await__(self) -> Generator[Any, Any, None]:
        run, send, throw = self._variables.run, self._coroutine.send, self._coroutine.throw
        waiting_for = self._waiting_for
        while True:
            try:
                value = yield waiting_for
            except BaseException as error:
                step: Callable[[Any], Any] = throw
                argument: Any = error
            else:
                step, argument = send, value
            try:
                waiting_for = run(step, argument)
            except StopIteration:
                return
