"""Background tasks that belong to an object, and resources that may be entered in one task and left in another.

anyio's task groups and cancel scopes belong to the task that entered them. Whoever opens an object in a fixture of
pytest-asyncio, a start-up hook or a notebook's cell leaves it in another task, where they fail. What holds one while it
is open therefore lives in a task of its own: `OwnedTasks` for tasks, `Hosted` for whatever else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.abc
import sniffio

from micro_core.errors import Closed

__all__ = ["Hosted", "OwnedTasks"]

log = logging.getLogger("micro.tasks")

Value = TypeVar("Value")


class Hosted(Generic[Value]):
    """Opens and closes ``resource`` in a task of its own, so that any task may enter it and any other leave it.

    An async context manager for one use; entering returns what the resource's entering returns. That task has a copy of
    the contextvars of whoever enters; ``name`` is for errors.

    What opening and closing raise is raised to whoever enters and leaves, out of its group where it comes alone. An
    exception that ends the resource in between is logged at once, and raised to whoever leaves. Who is cancelled while
    entering or leaving cancels the resource, and goes on when that has ended: its own clean-up bounds the time.
    """

    def __init__(self, resource: AbstractAsyncContextManager[Value], *, name: str = "") -> None:
        self._resource = resource
        self._name = name or repr(resource)
        self._scope: anyio.CancelScope | None = None
        self._values: list[Value] = []
        self._error: BaseException | None = None
        self._settled = anyio.Event()
        self._closing = anyio.Event()
        self._ended = anyio.Event()
        self._task: object = None
        """Kept here: asyncio itself holds its tasks by weak references alone."""

    async def __aenter__(self) -> Value:
        if self._task is not None:
            raise Closed(f"{self._name} is opened once")
        self._scope = anyio.CancelScope()
        self._task = _spawn(partial(self._live, self._scope), self._end)
        await self._wait(self._settled, self._scope)
        if not self._values:
            self._raise_error()
            raise Closed(f"the task of {self._name} was cancelled while it was opened")
        return self._values[0]

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the resource, and return when it is closed. Closing twice is fine. Raises what the closing raises."""
        if self._scope is None:
            return
        self._closing.set()
        self._scope.deadline = anyio.current_effective_deadline()
        await self._wait(self._ended, self._scope)
        self._raise_error()

    async def wait_ended(self) -> None:
        """Return when the resource is closed, or has ended by itself."""
        await self._ended.wait()

    async def _wait(self, event: anyio.Event, scope: anyio.CancelScope) -> None:
        try:
            await event.wait()
        except BaseException:
            scope.cancel()
            with anyio.CancelScope(shield=True):
                await self._ended.wait()
            self._raise_error()
            raise

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def _live(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                async with self._resource as value:
                    self._values.append(value)
                    self._settled.set()
                    await self._closing.wait()
        except (anyio.get_cancelled_exc_class(), GeneratorExit):
            raise  # the event loop is closing
        except BaseException as error:  # whoever enters or leaves raises it
            self._error = _alone(error)
            if self._values and not self._closing.is_set():
                log.error("%s failed while it was open", self._name, exc_info=error)

    def _end(self) -> None:
        self._settled.set()
        self._ended.set()

    def __repr__(self) -> str:
        state = "closed" if self._ended.is_set() else "open" if self._values else "not open"
        return f"<Hosted {state}, {self._name}>"


def _alone(error: BaseException) -> BaseException:
    """Return the one exception in a group of groups, so that it keeps its type; the group where it has more."""
    alone = error
    while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
        alone = alone.exceptions[0]
    return error if isinstance(alone, BaseExceptionGroup) else alone


class OwnedTasks:
    """Tasks that belong to an object and end with it: what is left is cancelled when the context is left.

    An async context manager that any task may enter, and any other leave. An exception of a task is logged and ends
    that task alone. Tasks see the contextvars of whoever opened it, never those of whoever happened to start them.
    """

    def __init__(self) -> None:
        self._host: Hosted[anyio.abc.TaskGroup] | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._context = Context()

    async def __aenter__(self) -> Self:
        if self._host is not None:
            raise Closed("owned tasks are opened once")
        self._context = copy_context()
        self._host = Hosted(anyio.create_task_group(), name="a task group")
        self._group = await self._host.__aenter__()
        return self

    def start_soon(
        self, function: Callable[..., Coroutine[Any, Any, object]], *arguments: object, context: Context | None = None
    ) -> None:
        """Run an async function in the background, in a copy of ``context`` where one is given.

        Raises `Closed` where this is not open.
        """
        if self._group is None:
            raise Closed(f"{function!r} cannot be started: whoever would own the task is not open")
        (context or self._context).run(self._group.start_soon, _fenced, function, *arguments)

    async def aclose(self) -> None:
        """Cancel what runs and wait for it. Closing twice is fine."""
        group, self._group = self._group, None
        if group is not None:
            group.cancel_scope.cancel()
        if self._host is not None:
            await self._host.aclose()

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<OwnedTasks {'not open' if self._group is None else 'open'}>"


async def _fenced(function: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> None:
    try:
        await function(*arguments)
    except Exception:
        log.exception("a background task failed: %r", function)


def _spawn(run: Callable[[], Coroutine[Any, Any, None]], ended: Callable[[], object]) -> object:
    """Run an async function in a task that belongs to the event loop alone; return that task, whose end is told."""
    if sniffio.current_async_library() == "trio":
        import trio

        async def run_and_tell() -> None:
            try:
                await run()
            finally:
                ended()

        return trio.lowlevel.spawn_system_task(run_and_tell, context=copy_context())
    import asyncio

    task = asyncio.get_running_loop().create_task(run())
    task.add_done_callback(lambda _: ended())  # told even where the loop closes before its first step
    return task
