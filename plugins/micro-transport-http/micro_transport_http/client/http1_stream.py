"""A stream as its caller sees it, on an HTTP/1.1 connection of its own (docs/wire.md §3.4)."""

from __future__ import annotations

from micro_core import Head, Headers, Message
from micro_transport_http.http1.message_stream import Http1Stream
from micro_transport_http.http1.parser import ResponseParser
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.io.link import Driver, Link

from .answers import connection_lost, refused, unreadable

__all__ = ["Http1ClientStream"]

_LINGER_SECONDS = 1.0


class Http1ClientStream(Http1Stream):
    """The caller's end of a stream, which reads its link itself."""

    def __init__(self, driver: Driver, link: Link, address: str, start: bytes, *, headers: int, body: int) -> None:
        super().__init__(driver, link, start, b"")
        self.address = address
        self._mark = b""
        self._parser = ResponseParser(self._message, headers=headers, body=body)
        self._is_reading = True

    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        """Send a message; each carries the ids of the first, by which the peer knows them (docs/wire.md §3.4)."""
        mark = headers.get(b"Micro-Stream") or head.headers.get(b"Micro-Stream")
        if mark is None and self._mark:
            headers = {**headers, b"Micro-Stream": self._mark}
        elif mark is not None and not self._mark:
            self._mark = mark
            self._id = headers.get(b"Micro-Id") or head.headers.get(b"Micro-Id") or mark
        await super().send(head, headers, body)

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        try:
            self._parser.feed(data)
        except Refusal as refusal:
            self.fail(unreadable(refusal, self.address))
            self._link.close()
        self._taken()

    def lost(self) -> None:
        """Let the receiver know, after what it has not read yet."""
        try:
            self._parser.end()
        except Refusal as refusal:
            self.fail(unreadable(refusal, self.address))
        self.fail(connection_lost(self._link, self.address, f"{self.address} went away in mid-stream"))

    def writable(self, writable: bool) -> None:
        """Senders wait for the link themselves."""

    def _message(self, headers: Headers, body: bytes) -> None:
        status = self._parser.status
        if status == 200:
            self.push(Message(headers, body))
        else:
            self.fail(refused(status, body, self.address))
            self._link.close()

    def _taken(self) -> None:
        if self.is_full and self._is_reading:
            self._is_reading = False
            self._link.pause()
        elif not self.is_full and not self._is_reading:
            self._is_reading = True
            self._link.resume()

    def _let_go(self) -> None:
        self._link.finish(_LINGER_SECONDS)
