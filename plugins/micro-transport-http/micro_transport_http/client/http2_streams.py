"""What a stream of an HTTP/2 connection is to a caller: one call, or messages both ways."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from micro_core import (
    ConnectFailed,
    ConnectionLost,
    Executed,
    Head,
    Headers,
    LimitExceeded,
    Message,
    MicroError,
    ProtocolError,
)
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http2.connection import Connection
from micro_transport_http.http2.frames import Code
from micro_transport_http.http2.message_stream import Http2Stream
from micro_transport_http.http2.messages import NotAMessage
from micro_transport_http.http2.stream_state import StreamState
from micro_transport_http.io.link import Driver, Waiter

from .answers import refused, unreadable

__all__ = ["CLIENT_WINDOW", "ClientConnection", "Http2Call", "Http2ClientStream", "why_reset"]

CLIENT_WINDOW = 1024 * 1024
"""Bytes of one stream that may be on their way to us."""


def why_reset(address: str, code: int, why: str) -> MicroError:
    """Return the error for a stream that the peer gave up, or broke."""
    if code == Code.REFUSED_STREAM:
        return ConnectFailed(f"{address} takes no more calls on this connection", node=address)
    if why:
        return ProtocolError(f"{address} broke the protocol: {why}", executed=Executed.MAYBE)
    return ConnectionLost(f"{address} gave up the call: {Code.name_of(code)}", node=address)


class ClientConnection(Connection[Any]):
    """What a stream needs of its connection."""

    address: str
    most_body: int
    """Bytes of a reply."""

    @abstractmethod
    def answered(self, call: Http2Call) -> None:
        """Take note that the whole answer to a call has come, perhaps before the whole request was sent."""

    @abstractmethod
    def forget(self, call: Http2Call) -> None:
        """Cancel a call whose caller has stopped waiting."""

    @abstractmethod
    def left(self) -> None:
        """Take note that there may be room again, or nothing under way any more."""

    @abstractmethod
    def begin_stream(self, stream: Http2ClientStream, head: Head, headers: Headers) -> None:
        """Write what a stream's messages begin with. Raises as a call does."""

    @abstractmethod
    def closed(self, stream: Http2ClientStream) -> None:
        """Note that a stream is no longer used."""


class Http2Call(StreamState):
    """A call under way."""

    __slots__ = ("client", "deadline", "id", "waiter")

    status = 0
    headers: Headers
    parts: list[bytes] | None = None

    def __init__(self, client: ClientConnection, id: int, waiter: Waiter, deadline: float) -> None:
        self.client = client
        self.id = id
        self.waiter = waiter
        self.deadline = deadline

    def begins(self, status: int, headers: Headers) -> None:
        """Take what the answer begins with."""
        self.status, self.headers = status, headers

    def arrived(self, data: bytes) -> None:
        client = self.client
        if self.length > client.most_body:
            text = f"the reply of {client.address} is too large: the body is larger than {client.most_body} bytes"
            self.settle(LimitExceeded(text, code=413, executed=Executed.MAYBE))
            client.forget(self)
        elif self.parts is not None:
            self.parts.append(data)
            self._go_on()
        elif self.has_ended:
            self._answered(data)
        else:
            self.parts = [data]
            self._go_on()

    def _go_on(self) -> None:
        """Have the rest sent, in few frames, or take the answer that is complete."""
        assert self.parts is not None
        if self.has_ended:
            self._answered(b"".join(self.parts))
        elif self.size + CLIENT_WINDOW // 2 > CLIENT_WINDOW + self.allowed:
            self.client.allow(self, CLIENT_WINDOW // 2)

    def _answered(self, body: bytes) -> None:
        self.client.answered(self)
        if self.status == 200:
            self.settle(Message(self.headers, body))
        else:
            self.settle(refused(self.status, body, self.client.address))

    def was_reset(self, code: int, why: str) -> None:
        self.settle(why_reset(self.client.address, code, why))
        self.client.left()

    def lost(self, error: MicroError) -> None:
        """Take note that the connection is gone."""
        self.settle(error)

    def settle(self, outcome: Message | MicroError) -> None:
        """Let the caller have its reply, or an error."""
        if not self.waiter.done():
            self.waiter.set_result(outcome)


class Http2ClientStream(Http2Stream):
    """The caller's end of a stream of messages. Its first message opens it."""

    def __init__(self, driver: Driver, client: ClientConnection, *, headers: int, body: int) -> None:
        super().__init__(driver, client, client.address, window=CLIENT_WINDOW, headers=headers, body=body)
        self._client = client
        self._status = 200
        self._refusal = b""

    def _begin(self, head: Head, headers: Headers) -> Headers:
        opening = {**head.headers, **headers}
        self._client.begin_stream(self, head, headers)
        return opening

    def begins(self, status: int, headers: Headers) -> None:
        """Take what the answers begin with."""
        self._status = status
        self._incoming.headers = headers

    def arrived(self, data: bytes) -> None:
        if self._status == 200:
            super().arrived(data)
            return
        self._refusal = (self._refusal + data)[:500]
        if self.has_ended:
            self._over(refused(self._status, self._refusal, self._peer))

    def was_reset(self, code: int, why: str) -> None:
        self._over(why_reset(self._peer, code, why) if why or code == Code.REFUSED_STREAM else self._lost())
        self._client.left()

    def _wrong(self, wrong: NotAMessage) -> MicroError:
        return unreadable(Refusal(wrong.status, str(wrong)), self._peer)

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(f"{self._peer} went away in mid-stream", node=self._peer)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            self._client.closed(self)
