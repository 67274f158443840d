"""A thread with an event loop, in which something is open as long as it runs."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from contextvars import copy_context

import anyio
from anyio.from_thread import BlockingPortal

__all__ = ["LoopThread"]


class LoopThread:
    """Opens ``resource`` in a thread of its own; ``portal`` runs further functions there.

    The making raises what the opening raises. The program does not wait for the thread at its end. Nothing of it lives
    in the thread that made it, such as a generator, that a forked process would have to finish.
    """

    def __init__(self, resource: AbstractAsyncContextManager[object]) -> None:
        self._resource = resource
        self._opened: Future[BlockingPortal] = Future()
        self._error: BaseException | None = None
        run = copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="micro client", daemon=True)
        self._thread.start()
        self.portal = self._opened.result()

    def stop(self) -> None:
        """Close the resource, and return when the thread has ended. Raises what the closing raised."""
        try:
            self.portal.start_task_soon(self.portal.stop, True)
        except RuntimeError:  # it has ended by itself
            pass
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            anyio.run(self._live)
        except BaseException as error:  # raised again in the thread that waits
            if self._opened.done():
                self._error = error
            else:
                self._opened.set_exception(error)

    async def _live(self) -> None:
        async with BlockingPortal() as portal, self._resource:
            self._opened.set_result(portal)
            await portal.sleep_until_stopped()
