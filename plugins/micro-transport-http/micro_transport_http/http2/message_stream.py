"""Messages both ways on one stream of a connection, as either side sees them (docs/protocol.md §2.3)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import anyio
import anyio.lowlevel

from micro_core import Closed, ConnectionLost, Head, Headers, Message, MicroError, Stream
from micro_transport_http.io.link import HIGH_WATER, Driver, Waiter

from .connection import Connection
from .frames import Code
from .messages import PREFIX_SIZE, MessageBuffer, NotAMessage, packed, prefix
from .stream_state import StreamState

__all__ = ["Http2Stream"]

_CLOSING_SECONDS = 5.0
_TOGETHER = 16
"""Parts that leave in one frame: the peer works on eight messages while more are made."""
_TURN = 32 * 1024
"""Bytes after which a sender lets others have the loop."""


class Http2Stream(StreamState, Stream):
    """A stream of a connection; what is unread is what the peer may not send again."""

    least = PREFIX_SIZE
    """A frame that carries a whole message is an honest one, however short the message."""

    def __init__(
        self, driver: Driver, connection: Connection[Any], peer: str, *, window: int, headers: int, body: int
    ) -> None:
        self._driver = driver
        self._connection = connection
        self._peer = peer
        self._window = window
        self._incoming = MessageBuffer(headers=headers, body=body)
        self._is_receiving = True
        self._step = window // 4
        self._sent = 0
        self._batch: list[bytes] = []
        """Messages that leave together, each as two parts."""
        self._head: Head | None = None
        self._opening: Headers = {}
        self._error: MicroError | None = None
        self._reader: Waiter | None = None
        self._writer: Waiter | None = None
        self.is_gone = False
        """Nothing that is sent arrives any more."""
        self.closed = False

    # ------------------------------------------------------------------------------------------ sending

    @abstractmethod
    def _begin(self, head: Head, headers: Headers) -> Headers:
        """Send what the messages of this direction begin with; return the headers that they have from then on."""

    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        if self.closed:
            raise Closed("this stream is closed")
        if self.is_gone or self.unsent > HIGH_WATER or not self._connection.wire.is_writable:
            await self._room()
        if self._head is None:
            self._opening = self._begin(head, headers)
            self._head = head
            if self._opening != {**head.headers, **headers}:
                await self._send_with_headers({**head.headers, **headers}, body)
                return
        elif head is not self._head or headers:
            await self._send_with_headers({**head.headers, **headers}, body)
            return
        batch = self._batch
        batch.append(prefix(len(body)))
        batch.append(body)
        self._sent += len(body)
        if len(batch) == 2:
            self._connection.wire.before_flush(self._flush)
        elif len(batch) == _TOGETHER:
            self._flush()
        if self._sent > _TURN:
            await self._give_way()

    async def _send_with_headers(self, headers: Headers, body: bytes) -> None:
        self._flush()
        self._connection.sending.send(self, packed(None if headers == self._opening else headers, body))
        self._sent += len(body)
        if self._sent > _TURN:
            await self._give_way()

    def _flush(self) -> None:
        """Have the messages leave that were sent since the last time."""
        batch = self._batch
        if batch:
            data = b"".join(batch)
            batch.clear()
            if not self.is_gone:
                self._connection.sending.send(self, data, alone=True)

    async def _give_way(self) -> None:
        """Let others have the loop, and wait for a peer that is behind.

        One that has ended the stream meanwhile, with its last answer perhaps, is told of by the next message.
        """
        self._sent = 0
        self._flush()
        await anyio.lowlevel.checkpoint()
        await self._has_room()

    async def _has_room(self) -> None:
        while not self.is_gone and (self.unsent > HIGH_WATER or not self._connection.wire.is_writable):
            self._writer = self._driver.waiter()
            await self._writer

    async def _room(self) -> None:
        await self._has_room()
        if self.is_gone:
            raise self._error or ConnectionLost(f"the peer of this stream, {self._peer}, is gone", node=self._peer)

    def room_again(self) -> None:
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # ------------------------------------------------------------------------------------------ receiving

    @property
    def has_unread(self) -> bool:
        """Whether a message waits for the receiver."""
        try:
            return self._incoming.is_whole()
        except NotAMessage:
            return False

    async def receive(self) -> Message:
        while (message := self._next()) is None:
            if self._error is not None:
                raise self._error
            if self.closed:
                raise Closed("this stream is closed")
            if self._reader is None or self._reader.done():
                self._reader = self._driver.waiter()
            await self._reader
            self._reader = None
        return message

    def _next(self) -> Message | None:
        incoming = self._incoming
        try:
            message = incoming.next()
        except NotAMessage as wrong:
            self._nonsense(wrong)
            return None
        if message is None:
            self._let_in()
        elif incoming.taken >= self._step:
            self._allow()
        return message

    def _let_in(self) -> None:
        """Let in a message that has no room in the window, when it is waited for."""
        incoming = self._incoming
        if incoming.wanted > self._window // 2 and incoming.taken >= 0 and not (self.has_ended or self.is_gone):
            self._connection.allow(self, incoming.wanted)
            incoming.taken -= incoming.wanted  # until it was taken itself

    def _allow(self) -> None:
        """Let the peer send as much again as was taken; in few frames."""
        taken, self._incoming.taken = self._incoming.taken, 0
        if not (self.has_ended or self.is_gone):
            self._connection.allow(self, taken)

    def _nonsense(self, wrong: NotAMessage) -> None:
        self._incoming.clear()
        self._is_receiving = False
        self.is_gone = True
        self.fail(self._wrong(wrong))
        self._end(Code.PROTOCOL_ERROR)

    def arrived(self, data: bytes) -> None:
        if self._is_receiving:
            incoming = self._incoming
            is_next = not incoming.size
            incoming.feed(data)
            if self._reader is not None and incoming.size >= incoming.wanted:
                self._wake()
            elif is_next:
                self._look()
        else:
            self._incoming.taken += len(data)
            if self._incoming.taken >= self._step:
                self._allow()
        if self.has_ended:
            self._over(self._lost())

    def _look(self) -> None:
        """Refuse a message that is none before anybody receives it."""
        try:
            self._incoming.is_whole()
        except NotAMessage as wrong:
            self._nonsense(wrong)

    def was_reset(self, code: int, why: str) -> None:
        self._over(self._lost())

    def lost(self, error: MicroError) -> None:
        """Take note that the connection is gone."""
        self._over(error)

    def fail(self, error: MicroError) -> None:
        """Let the receiver see ``error`` once what is here was taken; the first one counts."""
        if self._error is None:
            self._error = error
            self._wake()

    @abstractmethod
    def _wrong(self, wrong: NotAMessage) -> MicroError:
        """Return what a receiver is told of a peer that sends nonsense."""

    @abstractmethod
    def _lost(self) -> MicroError:
        """Return what a receiver is told when the peer has left."""

    def _over(self, error: MicroError) -> None:
        """Take note that the peer has left; what it sent before is still received."""
        self.is_gone = True
        self.fail(error)
        self.room_again()

    def discard(self) -> None:
        self._is_receiving = False
        self._incoming.clear()
        if self._incoming.taken >= self._step:
            self._allow()

    # ------------------------------------------------------------------------------------------ the end

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.discard()
        self._wake()
        self._flush()
        try:
            with anyio.move_on_after(_CLOSING_SECONDS):
                while self.unsent and not self.is_gone:
                    self._writer = self._driver.waiter()
                    await self._writer
        finally:
            self._end(Code.CANCEL)

    def _end(self, code: Code) -> None:
        """Say that it is over, where the peer does not know."""
        connection = self._connection
        if self._head is None or connection.streams.get(self.id) is not self:
            return
        if not self.has_ended:
            connection.reset(self.id, code)
            return
        connection.sending.send(self, b"", ends=True)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "lost" if self.is_gone else "open"
        return f"<Http2Stream {self._peer} {state}, {self._incoming.size} bytes unread>"
