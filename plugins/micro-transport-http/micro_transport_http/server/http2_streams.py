"""What a stream of an HTTP/2 connection is to a listener: one request, or messages both ways."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

from micro_core import ConnectionLost, Head, Headers, Limits, Request
from micro_transport_http.http2.connection import Connection
from micro_transport_http.http2.frames import Code
from micro_transport_http.http2.message_stream import Http2Stream
from micro_transport_http.http2.messages import NotAMessage, packed
from micro_transport_http.http2.stream_state import StreamState
from micro_transport_http.io.link import Driver

from .request import ConnectionRequest

__all__ = ["SERVER_WINDOW", "Http2Request", "Http2ServerStream", "ServerConnection", "StreamRequest"]

_logger = logging.getLogger("micro.transport.http")

SERVER_WINDOW = 256 * 1024
"""Bytes of one stream that may be on their way to us."""


class ServerConnection(Connection[Any]):
    """What a stream needs of its connection."""

    driver: Driver
    local: str
    remote: str
    peer_names: tuple[str, ...]
    """Those that the caller was verified by."""
    most_body: int
    """Bytes of a request."""
    now: float
    """When the bytes at hand were read."""

    @abstractmethod
    def complete(self, request: Http2Request) -> None:
        """Hand on a request that is all here."""

    @abstractmethod
    def collect(self, request: Http2Request, data: bytes) -> None:
        """Take a part of a body that comes in several."""

    @abstractmethod
    def drop(self, request: Http2Request) -> None:
        """Forget a body that is not all here, and never will be."""

    @abstractmethod
    def withdraw(self, request: Http2Request) -> None:
        """Forget a request that is all here, and was given up before it was handed on."""

    @abstractmethod
    def hand(self, request: ConnectionRequest) -> None:
        """Let the server have a request, once all bytes at hand are read."""

    @abstractmethod
    def answer(self, request: Http2Request, head: Head, headers: Headers, body: bytes) -> None:
        """Write the answer to a request, unless nobody waits for it any more."""

    @abstractmethod
    def begin_answer(self, stream: StreamState, head: Head) -> None:
        """Write what the messages to a caller begin with."""


class Http2Request(StreamState, ConnectionRequest):
    """A request on a stream of its own."""

    __slots__ = ("has_ended", "id", "is_bodiless", "is_complete", "server")

    has_fields = True
    parts: list[bytes] | None = None

    def __init__(self, server: ServerConnection, id: int, headers: Headers, body: bytes, *, is_complete: bool) -> None:
        Request.__init__(self, headers, body, local=server.local, remote=server.remote)
        self.connection = self.server = server
        self.id = id
        self.peer = server.peer_names
        self.received_at = server.now
        self.has_ended = self.is_complete = is_complete
        self.is_handed_on = False
        self.is_bodiless = False

    def arrived(self, data: bytes) -> None:
        if self.has_ended and self.parts is None and self.length <= self.server.most_body:
            self.body = data
            self.server.complete(self)
        else:
            self.server.collect(self, data)

    def was_reset(self, code: int, why: str) -> None:
        if not self.is_complete:
            self.server.drop(self)
        elif not self.is_handed_on:
            self.server.withdraw(self)
        self.give_up()

    def respond(self, head: Head, headers: Headers, body: bytes) -> None:
        self.server.answer(self, head, headers, body)


class Http2ServerStream(Http2Stream):
    """The listener's end of a stream of messages."""

    has_fields = True

    def __init__(self, server: ServerConnection, request: StreamRequest, number: int, limits: Limits) -> None:
        super().__init__(
            server.driver, server, server.remote, window=SERVER_WINDOW, headers=limits.headers, body=limits.body
        )
        self.id = number
        self._server = server
        self._request = request
        self._incoming.headers = request.headers
        self.is_complete = False
        """The first message, which is the request's own body, was handed on."""

    def arrived(self, data: bytes) -> None:
        super().arrived(data)
        if not self.is_complete and (message := self._next()) is not None:
            self.is_complete = True
            self._request.body = message.body
            self._server.hand(self._request)

    def _begin(self, head: Head, headers: Headers) -> Headers:
        self._server.begin_answer(self, head)
        return head.headers

    def _wrong(self, wrong: NotAMessage) -> ConnectionLost:
        _logger.info("refused a stream of %s: %s", self._peer, wrong)
        return ConnectionLost(f"the caller {self._peer} sent nonsense: {wrong}", node=self._peer)

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(f"the caller {self._peer} is gone", node=self._peer)

    def _over(self, error: Any) -> None:
        super()._over(error)
        self._abandon_if_read()

    def _next(self) -> Any:
        message = super()._next()
        if self.is_gone and message is not None and not self.has_unread:
            # In the next turn, so that the receiver sees its last message first.
            self._driver.call_at(self._driver.time(), self._request.give_up)
        return message

    def discard(self) -> None:
        super().discard()
        self._abandon_if_read()

    def _abandon_if_read(self) -> None:
        if self.is_gone and not self.has_unread:
            self._request.give_up()

    def _end(self, code: Code) -> None:
        server = self._server
        if server.streams.get(self.id) is not self:
            return
        if self._head is not None:
            server.sending.send(self, b"", ends=True)
        if not self.has_sent_end:
            server.reset(self.id, Code.CANCEL)
        elif not self.has_ended:
            server.reset(self.id, Code.NO_ERROR)
        self._request.connection = None

    def answer(self, head: Head, headers: Headers, body: bytes) -> None:
        """Answer as a call is answered, in place of messages."""
        self._opening = self._begin(head, headers)
        self._head = head
        self._server.sending.send(self, packed({**head.headers, **headers}, body))
        self._end(Code.NO_ERROR)


class StreamRequest(ConnectionRequest):
    """A request that opens a stream of messages."""

    __slots__ = ()

    def respond(self, head: Head, headers: Headers, body: bytes) -> None:
        if self.connection is not None:
            self.connection = None
            self.stream.answer(head, headers, body)  # type: ignore[union-attr]
