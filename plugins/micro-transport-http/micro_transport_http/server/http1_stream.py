"""A stream as the listener sees it, on an HTTP/1.1 connection of its own (docs/wire.md §3.4)."""

from __future__ import annotations

from typing import Protocol

from micro_core import ConnectionLost
from micro_transport_http.http1.message_stream import Http1Stream
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http1.writer import ANSWER
from micro_transport_http.io.link import Driver, Link

from .request import ConnectionRequest

__all__ = ["Carrier", "Http1ServerStream"]


class Carrier(Protocol):
    """The connection that reads a stream's messages."""

    is_reading: bool
    """Its link is read."""

    def adjust_reading(self) -> None:
        """Read on or pause, as the stream's receiver keeps up."""

    def stream_closed(self) -> None:
        """End with the stream, whose handler is done."""


class Http1ServerStream(Http1Stream):
    """The listener's end of a stream; open until it is closed, answered like a call, or refused."""

    def __init__(self, carrier: Carrier, driver: Driver, link: Link, request: ConnectionRequest, mark: bytes) -> None:
        super().__init__(driver, link, ANSWER, request.key)
        self.mark = mark
        """Its ``Micro-Stream``, by which messages are known as the stream's."""
        self._carrier = carrier
        self._request: ConnectionRequest | None = request
        """That opened the stream; none once the stream is over."""

    def lost(self) -> None:
        """Let the handler know that the caller is gone, after what it has not read yet."""
        self.fail(ConnectionLost(f"the caller {self._link.remote} is gone", node=self._link.remote))
        if self._request is not None and not self.has_unread:
            self._request.give_up()

    def refused(self, refusal: Refusal) -> None:
        """End the stream, since what came on its connection was refused."""
        request = self._request
        self.end()
        remote = self._link.remote
        self.fail(ConnectionLost(f"the caller {remote} sent nonsense: {refusal.sentence}", node=remote))
        if request is not None:
            request.give_up()

    def end(self) -> None:
        """Be over: nothing is sent any more, and what still comes is for nobody."""
        self.closed = True
        self._request = None

    def _taken(self) -> None:
        request = self._request
        if not self._link.lost:
            if not self._carrier.is_reading:
                self._carrier.adjust_reading()
        elif request is not None and not self.has_unread:
            # In the next turn, so that the receiver sees its last message first.
            self._driver.call_at(self._driver.time(), request.give_up)

    def _let_go(self) -> None:
        request = self._request
        if request is not None:
            request.connection = None
            self._carrier.stream_closed()
