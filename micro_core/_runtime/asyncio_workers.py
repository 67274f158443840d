"""Reused tasks on asyncio: a job that never waits costs no task, timer or cancel scope (docs/adr/0001-workers.md).

The life of a worker, which is one task:

    submit() ──▶ queue ──wake──▶ RUNNING ──the job waits──▶ WAITING ──it is done──▶ RUNNING
                                    │  ▲                       │ cancelled: its scope, and so the worker's loop,
                       queue empty  ▼  │ woken                 ▼ is replaced
                                  IDLE ──submit() from a callback──▶ BEGUN: the first step is made at once,
                                                                     in the idle worker's name

A worker that waits for a job's sake wakes another for the rest of the queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
from asyncio.tasks import _enter_task, _leave_task  # for those who run tasks themselves: asyncio's docs, Extending
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

import anyio

from micro_core._runtime.jobs import Job, Runner

__all__ = ["CALLS_PER_TURN", "AsyncioWorkers"]

log = logging.getLogger("micro.server")

CALLS_PER_TURN = 64
"""How many jobs a worker finishes before it lets others have the event loop."""
TURN_SECONDS = 0.002
"""Seconds after which it yields even so, unless one job takes longer, so that sockets and cancellations are read."""
KEPT_WORKERS = 16
"""Idle workers that are kept."""
SHRINK_SECONDS = 1.0
"""Seconds after which idle workers beyond those end."""


class _WorkerTask:
    """A worker: one task that runs jobs, one after another."""

    __slots__ = ("begun", "idle", "is_surplus", "scope", "task")

    idle: asyncio.Future[None]
    """What it waits for while it has nothing to do."""
    scope: anyio.CancelScope
    """What cancels the job that it runs."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.begun: tuple[Job, _Rest] | None = None
        """A job whose first step was made in its name while it had nothing to do."""
        self.is_surplus = False
        """It ends, since it had nothing to do for a while."""


class AsyncioWorkers(Runner):
    """Tasks that run jobs one after another, inside a cancel scope that is replaced only after it was cancelled.

    The first step of a job is made in a copied context: at once, in the name of a worker that has nothing to do, or
    else by a worker when it comes to it. A job that waits keeps its worker; another is woken for the rest of the queue.
    """

    def __init__(self, closing_seconds: float) -> None:
        self._closing_seconds = closing_seconds
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._queue: deque[Job] = deque()
        self._idle: list[_WorkerTask] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._scopes: set[anyio.CancelScope] = set()
        self._woken = False
        self._at_once = 0
        """How many jobs were begun at once since a worker last had the event loop."""
        self._closing = False
        self._shrinking: asyncio.TimerHandle | None = None
        self._idle_before: list[_WorkerTask] = []
        """The workers that were idle at the last look."""

    def submit(self, job: Job) -> None:
        if not (self._woken or self._at_once == CALLS_PER_TURN) and self._idle and self._begin(job):
            return
        self._queue.append(job)
        if not self._woken:
            self._wake()

    def _begin(self, job: Job) -> bool:
        """Make a job's first step in the name of a worker that waits; return False where some task is being run.

        It saves a turn of the event loop, a tenth of a call's time where nothing else is under way.
        """
        worker = self._idle[-1]
        task, idle = worker.task, worker.idle
        if idle.done():
            return False
        try:
            _enter_task(self._loop, task)
        except RuntimeError:
            return False
        self._idle.pop()
        self._at_once += 1
        began = monotonic()
        try:
            rest = self._first_step(job)
        except BaseException as error:
            if not idle.done():
                idle.set_exception(error)
        else:
            if rest is not None:
                worker.begun = job, rest
                job.waits(worker.scope)
                if not idle.done():
                    idle.set_result(None)
            elif not idle.done():  # else the job has cancelled its own task, and that ends the worker
                self._idle.append(worker)
        finally:
            _leave_task(self._loop, task)
        if monotonic() - began > TURN_SECONDS:
            self._at_once = CALLS_PER_TURN
        return True

    def _first_step(self, job: Job) -> _Rest | None:
        """Make a job's first step in a copied context; return what is left of it, None where nothing is."""
        coroutine, variables = job.run(), self._context.copy()
        try:
            waiting_for = variables.run(coroutine.send, None)
        except StopIteration:
            return None
        return _Rest(coroutine, waiting_for, variables)

    def _wake(self) -> None:
        self._woken = True
        while self._idle:
            idle = self._idle.pop().idle
            if not idle.done():
                idle.set_result(None)
                return
        task = self._loop.create_task(self._work(), context=self._context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._tasks) > KEPT_WORKERS and self._shrinking is None:
            self._shrinking = self._loop.call_later(SHRINK_SECONDS, self._shrink)

    def _shrink(self) -> None:
        """End the workers that had nothing to do since the last look: who waits longest is woken last."""
        self._shrinking, before = None, self._idle_before
        unused = 0
        for worker, was in zip(self._idle, before, strict=False):
            if worker is not was:
                break
            unused += 1
        surplus = min(unused, len(self._tasks) - KEPT_WORKERS)
        for worker in self._idle[:surplus]:
            worker.is_surplus = True
            if not worker.idle.done():
                worker.idle.set_result(None)
        del self._idle[:surplus]
        self._idle_before = []
        if len(self._tasks) - surplus > KEPT_WORKERS:
            self._idle_before = self._idle.copy()
            self._shrinking = self._loop.call_later(SHRINK_SECONDS, self._shrink)

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        worker = _WorkerTask(task)
        while not (self._closing or worker.is_surplus):
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                worker.scope = scope
                try:
                    while await self._run_queue(worker) and await self._wait(worker):
                        pass
                finally:
                    self._scopes.discard(scope)

    async def _run_queue(self, worker: _WorkerTask) -> bool:
        """Run jobs until none is left; return whether the worker may wait for more in the same scope."""
        queue, turn, task = self._queue, CALLS_PER_TURN, worker.task
        until = monotonic() + TURN_SECONDS
        while queue:
            job = queue.popleft()
            try:
                rest = self._first_step(job)
            except BaseException:  # what stops a process, or a job that breaks its promise, takes this worker alone
                self._woken = False
                if queue:
                    self._wake()
                raise
            if rest is None:
                turn -= 1
                if not turn or monotonic() > until or task.cancelling():
                    turn = CALLS_PER_TURN
                    await _give_way(task)
                    until = monotonic() + TURN_SECONDS
                continue
            self._woken = False
            if queue:
                self._wake()
            job.waits(worker.scope)
            if not await self._finish(worker, job, rest):
                return False
            turn, until = CALLS_PER_TURN, monotonic() + TURN_SECONDS
        self._woken = False
        self._at_once = 0
        return not self._closing

    async def _wait(self, worker: _WorkerTask) -> bool:
        """Wait for something to do; return whether the worker may wait for more in the same scope."""
        interruption: asyncio.CancelledError | None = None
        worker.idle = self._loop.create_future()
        self._idle.append(worker)
        try:
            await worker.idle
        except asyncio.CancelledError as error:
            if worker.begun is None:
                raise
            interruption = error
        if worker.begun is None:
            return not worker.is_surplus
        (job, rest), worker.begun = worker.begun, None
        rest.interruption = interruption
        return await self._finish(worker, job, rest)

    async def _finish(self, worker: _WorkerTask, job: Job, rest: _Rest) -> bool:
        """Run what is left of a job after its first step; return whether the worker may go on in the same scope."""
        scope, deadline = worker.scope, job.deadline
        timer = None if deadline == math.inf else self._loop.call_at(deadline, scope.cancel)
        try:
            await rest
        finally:
            if timer is not None:
                timer.cancel()
        if scope.cancel_called:
            return False
        if worker.task.cancelling():
            await _give_way(worker.task)
        return True

    async def aclose(self) -> None:
        """Cancel what runs, wait for it, bounded where it shields itself, and end the workers."""
        self._closing = True
        self._queue.clear()
        if self._shrinking is not None:
            self._shrinking.cancel()
            self._shrinking = None
        self._idle_before.clear()
        for scope in tuple(self._scopes):
            scope.cancel()
        for worker in self._idle:
            if not worker.idle.done():
                worker.idle.set_result(None)
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


async def _give_way(task: asyncio.Task[None]) -> None:
    """Let others have the event loop, and take in a cancellation that a job left behind by cancelling its own task."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass
    while task.cancelling():
        task.uncancel()


class _Rest:
    """Await what is left of a coroutine after its first step, each step inside its own contextvars."""

    __slots__ = ("_coroutine", "_variables", "_waiting_for", "interruption")

    def __init__(self, coroutine: Coroutine[Any, Any, None], waiting_for: Any, variables: Context) -> None:
        self._coroutine = coroutine
        self._waiting_for = waiting_for
        self._variables = variables
        self.interruption: asyncio.CancelledError | None = None
        """The cancellation of the first step's own task: it ends what the step waits for, as a task's own would."""

    def __await__(self) -> Generator[Any, Any, None]:
        run, send, throw = self._variables.run, self._coroutine.send, self._coroutine.throw
        waiting_for = self._waiting_for
        while True:
            try:
                interruption, self.interruption = self.interruption, None
                if interruption is not None and not (waiting_for is not None and waiting_for.cancel()):
                    raise interruption
                value = yield waiting_for
            except BaseException as error:
                step: Callable[[Any], object] = throw
                argument: object = error
            else:
                step, argument = send, value
            try:
                waiting_for = run(step, argument)
            except StopIteration:
                return
