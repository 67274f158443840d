"""Tasks that belong to an object: they run in its task group, and end before it does without cancelling its host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType

import anyio

__all__ = ["OwnedTasks"]


class OwnedTasks:
    """A task group whose tasks can all be stopped while the task that opened it goes on."""

    def __init__(self) -> None:
        self._group: anyio.abc.TaskGroup | None = None
        self._scopes: set[anyio.CancelScope] = set()
        self._empty = anyio.Event()

    async def open(self) -> None:
        """Open the task group in the current task, which has to `close` it."""
        self._group = anyio.create_task_group()
        await self._group.__aenter__()

    @property
    def running(self) -> bool:
        """Whether tasks can be started."""
        return self._group is not None

    def start(self, function: Callable[[], Awaitable[None]]) -> None:
        """Start a task."""
        assert self._group is not None
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        self._group.start_soon(self._run, function, scope)

    async def _run(self, function: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await function()
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._empty.set()

    async def stop(self) -> None:
        """Cancel all tasks, and return when they have ended."""
        while self._scopes:
            self._empty = anyio.Event()
            for scope in self._scopes:
                scope.cancel()
            await self._empty.wait()

    async def close(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Close the task group; an exception that came alone leaves with its own type."""
        group, self._group = self._group, None
        if group is None:
            return None
        try:
            return await group.__aexit__(kind, error, traceback)
        except BaseExceptionGroup as several:
            alone = _alone(several)
            if alone is None:
                raise
            if alone is error:
                return False
            raise alone from alone.__cause__


def _alone(error: BaseException) -> BaseException | None:
    """Return the one exception in a group of groups, or None where there are more."""
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    return error
