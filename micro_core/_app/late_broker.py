"""A broker that is opened when somebody first needs it: most clients never publish."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from micro_core.broker import Broker
from micro_core.errors import Closed, Unavailable
from micro_core.tasks import OwnedTasks

__all__ = ["LateBroker"]

log = logging.getLogger("micro.client")


class LateBroker:
    """Opens a broker in a task of its own, which closes it too. An async context manager."""

    def __init__(self, make: Callable[[], Broker]) -> None:
        self._make = make
        self._tasks = OwnedTasks()
        self._opening: _Opening | None = None
        self._closing = anyio.Event()

    async def __aenter__(self) -> LateBroker:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._closing.set()
        try:
            if self._opening is not None:
                await self._opening.closed.wait()  # the broker bounds its own end
        finally:
            await self._tasks.aclose()

    async def get(self) -> Broker:
        """Return the broker, opened. Raises what making and opening it raised, and `Closed`.

        An OSError is raised as `Unavailable`. Where it was `Unavailable`, the next call tries again.
        """
        if self._opening is None or self._opening.may_be_tried_again:
            if self._closing.is_set():
                raise Closed("the broker is closed")
            self._opening = _Opening()
            self._tasks.start_soon(self._live, self._opening)
        opening = self._opening
        if opening.broker is None:
            await opening.settled.wait()
            if opening.error is not None:
                raise opening.error
        if opening.broker is None:
            raise Closed("the broker is closed")
        return opening.broker

    @property
    def opened(self) -> Broker | None:
        """The broker where it is open."""
        return None if self._opening is None else self._opening.broker

    async def _live(self, opening: _Opening) -> None:
        try:
            async with self._make() as broker:
                opening.broker = broker
                opening.settled.set()
                await self._closing.wait()
        except Exception as error:
            if opening.settled.is_set():
                log.warning("broker: %s", error)
            opening.error = _as_ours(error)
        finally:
            opening.broker = None
            opening.settled.set()
            opening.closed.set()


def _as_ours(error: Exception) -> Exception:
    """Return an error of the system's as `Unavailable`, for a plugin that did not: a refused connection may pass."""
    if not isinstance(error, OSError):
        return error
    unavailable = Unavailable(f"the broker cannot be opened: {error}")
    unavailable.__cause__ = error
    return unavailable


class _Opening:
    """One attempt to open the broker, and its result."""

    def __init__(self) -> None:
        self.broker: Broker | None = None
        self.error: Exception | None = None
        self.settled = anyio.Event()
        self.closed = anyio.Event()

    @property
    def may_be_tried_again(self) -> bool:
        """Whether it failed for a cause that may have gone meanwhile."""
        return isinstance(self.error, Unavailable) and self.closed.is_set()
