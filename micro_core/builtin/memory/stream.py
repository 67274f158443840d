"""Streams of the memory transport: two bounded queues, one for each direction."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy

import anyio
import anyio.lowlevel

from micro_core.errors import Closed, ConnectionLost, Executed, MicroError
from micro_core.message import Headers, Message, canonical
from micro_core.transport import Head, Stream

__all__ = ["MemoryStream", "Pipe", "joined", "size_of", "size_of_headers"]

MESSAGES_KEPT = 16
BYTES_KEPT = 256 * 1024
"""Backpressure: the bytes by which a sender may be ahead, with `MESSAGES_KEPT`; one message always fits."""


class Pipe:
    """A bounded queue of messages from one sender to one receiver: the sender waits while it is full."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._moved = anyio.Event()
        self._ended: MicroError | None = None
        self._lost: MicroError | None = None

    async def put(self, message: Message) -> None:
        """Add a message, waiting for room. Raises what `end` or `drop` was given."""
        await anyio.lowlevel.checkpoint()
        while self._is_full() and not self._ended:
            await self._moved.wait()
        self.put_nowait(message)

    def put_nowait(self, message: Message) -> None:
        """Add a message, room or not. Raises what `end` or `drop` was given."""
        if self._ended:
            raise copy(self._ended)
        self._messages.append(message)
        self._bytes += size_of(message)
        self._wake()

    async def get(self) -> Message:
        """Return the next message. Raises what `end` was given when none is left, and what `drop` was given at once."""
        await anyio.lowlevel.checkpoint()
        while not self._messages:
            if self._lost:
                raise copy(self._lost)
            await self._moved.wait()
        message = self._messages.popleft()
        self._bytes -= size_of(message)
        self._wake()
        return message

    def end(self, to_sender: MicroError, to_receiver: MicroError) -> None:
        """Take no more messages; those there are can still be read. The first reasons given stay."""
        self._ended = self._ended or to_sender
        self._lost = self._lost or to_receiver
        self._wake()

    def drop(self) -> None:
        """Forget what was not read."""
        self._messages.clear()
        self._bytes = 0
        self._wake()

    def _is_full(self) -> bool:
        return len(self._messages) >= MESSAGES_KEPT or self._bytes >= BYTES_KEPT

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()


class MemoryStream(Stream):
    """One end of a stream."""

    def __init__(self, inbound: Pipe, outbound: Pipe, *, peer: str, closing: Callable[[], None]) -> None:
        self._inbound = inbound
        self._outbound = outbound
        self._peer = peer
        self._closing = closing
        self.closed = False

    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        await self._outbound.put(joined(head, headers, body))

    async def receive(self) -> Message:
        return await self._inbound.get()

    def answer(self, message: Message) -> None:
        """Send without waiting; what nobody can read any more is dropped."""
        try:
            self._outbound.put_nowait(message)
        except MicroError:
            pass

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go; the other end may still read what was sent."""
        if self.closed:
            return
        self.closed = True
        here, there = Closed(f"the stream to {self._peer} was closed"), _lost("the other end closed the stream")
        self._outbound.end(to_sender=here, to_receiver=there)
        self._inbound.end(to_sender=there, to_receiver=here)
        self._inbound.drop()
        self._closing()

    def lose(self, reason: str) -> None:
        """Break the connection under the stream; what has arrived can still be read."""
        self._outbound.end(to_sender=_lost(reason), to_receiver=_lost(reason))
        self._inbound.end(to_sender=_lost(reason), to_receiver=_lost(reason))

    def __repr__(self) -> str:
        return f"<MemoryStream {'closed' if self.closed else 'open'}, to {self._peer}>"


def _lost(reason: str) -> ConnectionLost:
    return ConnectionLost(reason, executed=Executed.MAYBE)


def joined(head: Head, headers: Headers, body: bytes) -> Message:
    """Return the message that ``head`` overlaid with ``headers`` makes, and refuse what no transport could carry."""
    message = Message({**head.headers, **headers}, body)
    assert type(body) is bytes, f"a body is bytes, not {type(body).__name__}"
    for name, value in message.headers.items():
        assert type(name) is type(value) is bytes, f"header names and values are bytes: {name!r}"
        assert canonical(name.decode()).encode() == name, f"header name {name!r} is not in canonical form"
    return message


def size_of(message: Message) -> int:
    """Return the bytes that a message holds in memory."""
    return len(message.body) + size_of_headers(message.headers)


def size_of_headers(headers: Headers) -> int:
    """Return the bytes that headers would take on a wire, four for each one's separators."""
    return sum(len(name) + len(value) + 4 for name, value in headers.items())
