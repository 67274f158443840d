"""Between the caller's event loop, of any kind, and the thread where the registry does its work.

Neither side ever waits for the other's loop while blocking its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from micro_core import MicroError, RegistryError

__all__ = ["Mailbox", "Thread"]

T = TypeVar("T")

_MAX_WAITING = 10_000


class _Waker:
    """Runs functions in the loop of who made it, from any thread."""

    def __init__(self) -> None:
        token: Any = current_token()
        native = getattr(token, "native_token", token)
        self._soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon

    def run(self, function: Callable[[], object]) -> None:
        try:
            self._soon(function)
        except RuntimeError:
            pass  # that loop has ended, and whoever waited with it


class Thread:
    """A thread with an asyncio loop of its own, whose coroutines can be awaited from anywhere."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._when_over: Callable[[], object] = lambda: None
        self._thread.start()

    async def call(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: object) -> T:
        """Run ``function`` in the thread and return what it returns; cancelling the wait cancels it."""
        outcome: list[asyncio.Task[T]] = []
        waker, done = _Waker(), anyio.Event()

        def begin() -> None:
            task = self._loop.create_task(function(*arguments))
            outcome.append(task)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: waker.run(done.set))

        def cancel() -> None:
            outcome[0].cancel()
            outcome[0].add_done_callback(lambda task: task.cancelled() or task.exception())

        self._loop.call_soon_threadsafe(begin)
        try:
            await done.wait()
        except BaseException:
            self._soon(cancel)
            raise
        if outcome[0].cancelled():
            raise RegistryError("the registry was closed in the middle of this")
        return outcome[0].result()

    def post(self, function: Callable[..., object], *arguments: object) -> None:
        """Run a plain function in the thread soon, if the thread still lives."""
        self._soon(lambda: function(*arguments))

    async def stop(self) -> None:
        """End the thread; what still runs in it is cancelled."""
        waker, over = _Waker(), anyio.Event()
        self._when_over = lambda: waker.run(over.set)
        self._soon(self._stopping.set)
        with anyio.CancelScope(shield=True):
            await over.wait()
        self._thread.join()  # its last act was to say that it is over

    def _soon(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop is closed already

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._live())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            self._when_over()

    async def _live(self) -> None:
        await self._stopping.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class Mailbox(Generic[T]):
    """A bounded queue from the thread into the caller's loop: an async iterator for one reader."""

    def __init__(self, limit: int = _MAX_WAITING) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._waker = _Waker()
        self._arrived = anyio.Event()
        self._error: MicroError | None = None

    def put(self, item: T) -> None:
        """Add an item, from the thread; one too many ends the iteration with `RegistryError`."""
        if len(self._items) >= self._limit:
            self.fail(RegistryError(f"a watcher left {self._limit} changes unread and lost the thread: watch again"))
        elif self._error is None:
            self._items.append(item)
            self._waker.run(self._wake)

    def fail(self, error: MicroError) -> None:
        """End the iteration with ``error`` after what has been put."""
        self._error = self._error or error
        self._waker.run(self._wake)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        while not self._items:
            if self._error is not None:
                raise self._error
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._items.popleft()

    def _wake(self) -> None:
        self._arrived.set()
