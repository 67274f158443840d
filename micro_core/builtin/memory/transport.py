"""The memory transport: calls and streams inside one process, with the promises of a real one and no ports.

A call is handed to its listener at once, in the event loop's thread and in the listener's own context; only the reply
is waited for. Limits, deadlines, lost connections and back-pressure are as between processes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.lowlevel

from micro_core.address import split_literal
from micro_core.builtin.memory.listener import MemoryConnection, MemoryListener
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.stream import MemoryStream, Pipe, joined
from micro_core.errors import (
    Closed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Executed,
    LimitExceeded,
    MicroError,
    Timeout,
)
from micro_core.hookspecs import hookimpl
from micro_core.message import Headers, Message
from micro_core.registry import Node
from micro_core.transport import Channel, Head, Limits, Listener, Request, Stream, Transport

__all__ = ["MemoryListener", "MemoryTransport", "make_transport"]

ID, STREAM = b"Micro-Id", b"Micro-Stream"


class MemoryTransport(Transport):
    """Carries messages through a `MemoryNetwork`."""

    name = "memory"

    def __init__(self, *, network: MemoryNetwork | None = None) -> None:
        self.network = network or MemoryNetwork.join()
        self._channels: set[MemoryChannel] = set()
        self._closed = False

    def listen(
        self, address: str, receive: Callable[[Request], None], limits: Limits
    ) -> AbstractAsyncContextManager[Listener]:
        return self._listen(address, receive, limits)

    @asynccontextmanager
    async def _listen(
        self, address: str, receive: Callable[[Request], None], limits: Limits
    ) -> AsyncIterator[MemoryListener]:
        if self._closed:
            raise Closed("the memory transport was closed")
        listener = MemoryListener(self.network, address, receive, limits)
        try:
            yield listener
        finally:
            listener.close()

    def connect(self, node: Node) -> Channel:
        if self._closed:
            raise Closed("the memory transport was closed")
        try:
            split_literal(node.address)
        except ConfigError as error:
            raise ConfigError(f"node {node.id!r} cannot be called: {error.detail}") from error
        channel = MemoryChannel(self.network, node.address, self._channels.discard)
        self._channels.add(channel)
        return channel

    async def aclose(self) -> None:
        self._closed = True
        for channel in tuple(self._channels):
            await channel.aclose()
            channel.lose("the transport was closed")

    def __repr__(self) -> str:
        return f"<MemoryTransport {'closed' if self._closed else 'open'}, {len(self._channels)} channels>"


class _UnaryRequest(Request):
    """A unary request in flight."""

    __slots__ = ("connection", "done", "error", "reply")

    def __init__(self, connection: MemoryConnection, message: Message) -> None:
        super().__init__(message.headers, message.body, local=connection.listener.address, remote=connection.remote)
        self.connection = connection
        self.reply: Message | None = None
        self.error: MicroError | None = None
        self.done = anyio.Event()
        connection.losing.add(self.lose)

    def respond(self, head: Head, headers: Headers, body: bytes) -> None:
        if self.done.is_set():
            return
        self.reply = joined(head, {**headers, ID: self.headers[ID]}, body)
        self._finish()

    def give_up(self) -> None:
        """Tell the listener that nobody waits any more, unless it has answered."""
        if not self.done.is_set():
            self._finish()
            _abandon(self)

    def lose(self, reason: str) -> None:
        self.error = ConnectionLost(reason, executed=Executed.MAYBE)
        self.give_up()

    def _finish(self) -> None:
        self.connection.losing.discard(self.lose)
        self.done.set()


class MemoryChannel(Channel):
    """A channel to one node."""

    def __init__(self, network: MemoryNetwork, address: str, closing: Callable[[MemoryChannel], None]) -> None:
        self._network = network
        self._address = address
        self._remote = network.free_address()
        self._connections: list[MemoryConnection] = []
        self._streams: set[MemoryConnection] = set()
        self._closing = closing
        self._closed = False

    async def call(self, head: Head, id: int, headers: Headers, body: bytes, deadline: float) -> Message:
        self._check(deadline)
        message = joined(head, {**headers, ID: b"%d" % id}, body)
        connection = self._connected()
        call: _UnaryRequest | None = None
        with anyio.CancelScope(deadline=deadline):
            connection.in_flight += 1
            try:
                await anyio.lowlevel.checkpoint()
                if connection.lost:
                    raise ConnectionLost(connection.lost, executed=Executed.NO)
                connection.listener.refuse(message)
                call = _UnaryRequest(connection, message)
                try:
                    connection.listener.hand_over(call)
                    await call.done.wait()
                finally:
                    call.give_up()
            finally:
                connection.in_flight -= 1
        if call and call.reply:
            return call.reply
        if call and call.error:
            raise call.error
        executed = Executed.MAYBE if call else Executed.NO
        raise Timeout(f"no answer from {self._address} before the deadline", executed=executed)

    async def open_stream(self, deadline: float) -> Stream:
        self._check(deadline)
        connection = self._connect()
        self._streams.add(connection)
        await anyio.lowlevel.checkpoint()
        return _CallerStream(connection, lambda: self._streams.discard(connection))

    def _check(self, deadline: float) -> None:
        if self._closed:
            raise Closed(f"the channel to {self._address} was closed")
        if deadline <= anyio.current_time():
            raise Timeout(f"the deadline had passed before {self._address} was called", executed=Executed.NO)

    def _connected(self) -> MemoryConnection:
        """Return a connection that has room for one more call."""
        self._connections = [connection for connection in self._connections if not connection.lost]
        for connection in self._connections:
            if connection.in_flight < connection.listener.limits.calls:
                return connection
        self._connections.append(self._connect())
        return self._connections[-1]

    def _connect(self) -> MemoryConnection:
        listener = self._network.listener(self._address)
        if listener is None or not listener.accepting:
            raise ConnectFailed(f"nobody listens on {self._address} in this world")
        return listener.accept(self._remote)

    async def aclose(self) -> None:
        self._closed = True
        self._closing(self)

    def lose(self, reason: str) -> None:
        """Break off what is in flight."""
        for connection in (*self._connections, *self._streams):
            connection.lose(reason)

    def __repr__(self) -> str:
        return f"<MemoryChannel to {self._address}, {'closed' if self._closed else 'open'}>"


class _CallerStream(MemoryStream):
    """The caller's end: its first message becomes the request that opens the stream at the listener's side."""

    def __init__(self, connection: MemoryConnection, closing: Callable[[], None]) -> None:
        there, back = Pipe(), Pipe()
        super().__init__(back, there, peer=connection.listener.address, closing=self._hang_up)
        self._connection = connection
        self._forget = closing
        self._listening = MemoryStream(there, back, peer=connection.remote, closing=lambda: None)
        self._request: _StreamRequest | None = None
        connection.losing.add(self._break)

    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        message = joined(head, headers, body)
        try:
            self._connection.listener.refuse(message)
        except LimitExceeded as error:
            self._break(error.detail)
            raise ConnectionLost(error.detail, executed=Executed.MAYBE if self._request else Executed.NO) from error
        if self._request or self.closed or self._connection.lost:
            await self._outbound.put(message)
            return
        self._request = _StreamRequest(self._connection, message, self._listening)
        self._connection.listener.hand_over(self._request)
        await anyio.lowlevel.checkpoint()

    def _hang_up(self) -> None:
        self._connection.losing.discard(self._break)
        self._connection.listener.forget(self._connection)
        self._forget()
        if self._request and not self._listening.closed:
            _abandon(self._request)

    def _break(self, reason: str) -> None:
        self._connection.lost = self._connection.lost or reason
        self.lose(reason)
        self._listening.lose(reason)
        self._hang_up()


class _StreamRequest(Request):
    """The request that opened a stream; an answer to it goes the stream's way."""

    __slots__ = ("_answer",)

    def __init__(self, connection: MemoryConnection, message: Message, stream: MemoryStream) -> None:
        opens = stream if message.headers.get(STREAM) else None
        local, remote = connection.listener.address, connection.remote
        super().__init__(message.headers, message.body, local=local, remote=remote, stream=opens)
        self._answer = stream.answer

    def respond(self, head: Head, headers: Headers, body: bytes) -> None:
        ids = {ID: self.headers[ID]} if ID in self.headers else {}
        self._answer(joined(head, {**headers, **ids}, body))


def _abandon(request: Request) -> None:
    abandon, request.abandon = request.abandon, None
    if abandon is not None:
        abandon()


@hookimpl
def make_transport() -> Transport:
    """Return a memory transport of the current network."""
    return MemoryTransport()
