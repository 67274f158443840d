"""A broker that is opened when somebody first needs it: most clients never publish."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from micro_core.broker import Broker
from micro_core.errors import Closed
from micro_core.tasks import OwnedTasks

__all__ = ["LateBroker"]

log = logging.getLogger("micro.client")


class LateBroker:
    """Opens a broker in a task of its own, which closes it too. An async context manager."""

    def __init__(self, make: Callable[[], Broker]) -> None:
        self._make = make
        self._tasks = OwnedTasks()
        self._broker: Broker | None = None
        self._error: Exception | None = None
        self._settled = anyio.Event()
        self._closing = anyio.Event()
        self._closed = anyio.Event()
        self._started = False

    async def __aenter__(self) -> LateBroker:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._closing.set()
        try:
            if self._started:
                await self._closed.wait()  # the broker bounds its own end
        finally:
            await self._tasks.aclose()

    async def get(self) -> Broker:
        """Return the broker, opened. Raises what making and opening it raised, and `Closed`."""
        if self._broker is None:
            if self._closing.is_set():
                raise Closed("the broker is closed")
            if not self._started:
                self._started = True
                self._tasks.start_soon(self._live)
            await self._settled.wait()
            if self._error is not None:
                raise self._error
        assert self._broker is not None
        return self._broker

    @property
    def opened(self) -> Broker | None:
        """The broker where it is open."""
        return self._broker

    async def _live(self) -> None:
        try:
            async with self._make() as broker:
                self._broker = broker
                self._settled.set()
                await self._closing.wait()
        except Exception as error:
            self._error = error
            if self._settled.is_set():
                log.warning("broker: %s", error)
        finally:
            self._broker = None
            self._settled.set()
            self._closed.set()
