"""Both ways of a stream on an HTTP/1.1 connection of its own, as either side sees it (docs/wire.md §3.4)."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque

import anyio

from micro_core import Closed, ConnectionLost, Head, Headers, Message, MicroError, Stream
from micro_transport_http.io.link import Driver, Link, Waiter

from .writer import message

__all__ = ["Http1Stream"]

_QUEUED_MESSAGES = 32
_QUEUED_BYTES = 256 * 1024
"""What may lie unread before backpressure: the connection is not read any further."""

_CLOSING_SECONDS = 5.0


class Http1Stream(Stream):
    """A stream on a link; whoever reads the link pushes the messages in."""

    def __init__(self, driver: Driver, link: Link, start: bytes, id: bytes) -> None:
        self._driver = driver
        self._link = link
        self._start = start
        self._id = id
        self._queue: deque[Message] = deque()
        self._queued = 0
        self._error: MicroError | None = None
        self._reader: Waiter | None = None
        self._sent = 0
        self._is_receiving = True
        self.closed = False

    @abstractmethod
    def _taken(self) -> None:
        """Take note that the receiver has taken a message, or wants none any more."""

    @abstractmethod
    def _let_go(self) -> None:
        """Part with the link: its user is done with the stream."""

    @property
    def is_full(self) -> bool:
        """Whether the receiver is so far behind that reading has to pause."""
        return len(self._queue) >= _QUEUED_MESSAGES or self._queued >= _QUEUED_BYTES

    @property
    def has_unread(self) -> bool:
        """Whether messages wait for the receiver."""
        return bool(self._queue)

    def push(self, incoming: Message) -> None:
        """Queue a message for the receiver."""
        if self._is_receiving:
            self._queue.append(incoming)
            self._queued += len(incoming.body)
            self._wake()

    def fail(self, error: MicroError) -> None:
        """Let the receiver see ``error`` once what is queued was taken; the first one counts."""
        if self._error is None:
            self._error = error
            self._wake()

    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        if self.closed:
            raise Closed("this stream is closed")
        if self._link.lost or not self._link.is_writable:
            await self._room()
        own = headers.get(b"Micro-Id") or head.headers.get(b"Micro-Id") or self._id
        data = message(self._start, head, own, headers, body)
        self._link.write(data)
        self._sent += len(data)
        if self._sent > 32 * 1024:
            # The loop gets a turn, and the peer's pace is ours.
            self._sent = 0
            await self._room()

    async def _room(self) -> None:
        await self._link.drain()
        if self._link.lost:
            raise self._lost()

    async def receive(self) -> Message:
        while not self._queue:
            if self._error is not None:
                raise self._error
            if self.closed:
                raise Closed("this stream is closed")
            if self._reader is None or self._reader.done():
                self._reader = self._driver.waiter()
            await self._reader
            self._reader = None
        incoming = self._queue.popleft()
        self._queued -= len(incoming.body)
        self._taken()
        return incoming

    def discard(self) -> None:
        self._is_receiving = False
        self._queue.clear()
        self._queued = 0
        self._taken()

    async def aclose(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._is_receiving = False
        self._queue.clear()
        self._queued = 0
        self._wake()
        try:
            with anyio.move_on_after(_CLOSING_SECONDS):
                while not (self._link.is_writable or self._link.lost):
                    await self._link.drain()
                await self._link.sent()
        finally:
            if not self._link.is_writable:
                self._link.close()
            self._let_go()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _lost(self) -> MicroError:
        return self._error or ConnectionLost(
            f"the peer of this stream, {self._link.remote}, is gone", node=self._link.remote
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else "lost" if self._link.lost else "open"
        return f"<Http1Stream {self._link.remote} {state}, {len(self._queue)} unread>"
