"""Who listens in a memory network, and the connections to them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import Protocol

from micro_core.builtin.memory.stream import size_of_headers
from micro_core.errors import Executed, LimitExceeded
from micro_core.message import Message
from micro_core.transport import Limits, Listener, Request

__all__ = ["MemoryConnection", "MemoryListener"]


class Addresses(Protocol):
    """Gives out the addresses of a network."""

    def bind(self, address: str, listener: MemoryListener) -> str:
        """Give out an address, and return it."""

    def unbind(self, address: str) -> None:
        """Free an address."""


class MemoryListener(Listener):
    """A bound address and the connections that it took."""

    def __init__(self, network: Addresses, address: str, receive: Callable[[Request], None], limits: Limits) -> None:
        self.limits = limits
        self.accepting = True
        self._connections: set[MemoryConnection] = set()
        self._network = network
        self._receive = receive
        self._context = copy_context()
        self._address = network.bind(address, self)

    @property
    def address(self) -> str:
        return self._address

    async def stop_accepting(self) -> None:
        self.accepting = False

    def accept(self, remote: str) -> MemoryConnection:
        """Return a new connection."""
        connection = MemoryConnection(self, remote)
        self._connections.add(connection)
        return connection

    def forget(self, connection: MemoryConnection) -> None:
        """Let a connection go."""
        self._connections.discard(connection)

    def refuse(self, message: Message) -> None:
        """Raise `LimitExceeded` for a message that is beyond the limits."""
        if len(message.body) > self.limits.body:
            what, size, limit = "a body", len(message.body), self.limits.body
        elif (size := size_of_headers(message.headers)) > self.limits.headers:
            what, limit = "headers", self.limits.headers
        else:
            return
        raise LimitExceeded(f"{self._address} takes {what} of {limit} bytes, not {size}", executed=Executed.NO)

    def hand_over(self, request: Request) -> None:
        """Give a request to whoever listens."""
        self._context.copy().run(self._receive, request)

    def close(self) -> None:
        """Free the address and lose all connections."""
        self.accepting = False
        self._network.unbind(self._address)
        for connection in tuple(self._connections):
            connection.lose(f"{self._address} closed the connection")

    def __repr__(self) -> str:
        state = "accepting" if self.accepting else "not accepting"
        return f"<MemoryListener {self._address}, {state}, {len(self._connections)} connections>"


class MemoryConnection:
    """A connection between one channel, or one stream, and a listener."""

    def __init__(self, listener: MemoryListener, remote: str) -> None:
        self.listener = listener
        self.remote = remote
        self.in_flight = 0
        self.lost = ""
        self.losing: set[Callable[[str], None]] = set()
        """Called when the connection is lost."""

    def lose(self, reason: str) -> None:
        """Break off, with everything that is in flight."""
        self.lost = self.lost or reason
        for tell in tuple(self.losing):
            tell(reason)
        self.listener.forget(self)
