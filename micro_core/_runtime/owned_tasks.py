"""Background tasks that belong to an object, and end with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, Self

import anyio

__all__ = ["OwnedTasks"]


log = logging.getLogger("micro.tasks")


class OwnedTasks:
    """A task group whose end cancels what is left.

    An exception of the body leaves it as it is; one of a task is logged, and ends that task alone.
    """

    def __init__(self) -> None:
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> None:
        """Run an async function in the background."""
        self._tasks.start_soon(_fenced, function, *arguments)

    async def aclose(self) -> None:
        """Cancel what runs and wait for it."""
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()


async def _fenced(function: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> None:
    try:
        await function(*arguments)
    except Exception:
        log.exception("a background task failed: %r", function)
