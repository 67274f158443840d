"""What a pool knows of a connection, whatever is spoken on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from micro_core import Head, Headers, Message
from micro_transport_http.io.link import Link

__all__ = ["PooledConnection"]


class PooledConnection(ABC):
    """A connection that carries calls: one at a time, or many at once."""

    link: Link
    address: str
    idle_since: float
    """When its last call ended, on the clock of the driver."""
    is_shared: bool = False
    """It carries many calls at once."""

    def __init__(self) -> None:
        self.on_room: Callable[[PooledConnection], None] = _nothing
        """Called when it takes calls again after it was full."""
        self.on_end: Callable[[PooledConnection], None] = _nothing
        """Called when it takes no more calls, ever; those under way may go on."""
        self.reserved = 0
        """Calls that were given room here and have not begun."""

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many calls and streams are under way."""

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether it takes no further call for now."""

    @property
    def is_in_use(self) -> bool:
        """Whether calls are under way, and there is room for more: most calls ask nothing else."""
        return self.in_flight > 0 and not self.is_full

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self.in_flight or self.reserved)

    def take(self) -> None:
        """Take note that the call which comes next has been given this connection."""

    def release(self) -> None:
        """Take note that there is no such call after all."""

    @abstractmethod
    async def call(self, head: Head, key: bytes, headers: Headers, body: bytes, deadline: float) -> Message:
        """Send a request and return its reply. Raises `MicroError`, at ``deadline`` (driver's clock) `Timeout`."""

    @abstractmethod
    def finish(self) -> None:
        """Take no further calls, and close as soon as those under way are done."""


def _nothing(connection: PooledConnection) -> None:
    pass
