"""The transport's contract: messages from one process to another.

Two shapes of traffic: a *call*, one request and one reply, many of which may share a connection; and a *stream*,
messages both ways on a connection of its own, where the receiver's pace is the sender's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, ClassVar, Self

import msgspec

from micro_core.errors import ConfigError
from micro_core.message import Headers, Message
from micro_core.registry import Node

__all__ = ["Channel", "Head", "Limits", "Listener", "Request", "Stream", "Transport"]


class Head:
    """Headers that stay the same from message to message, so that a transport can encode them once.

    ``encoded`` is for the transport alone; a head is only ever given to one transport.
    """

    __slots__ = ("encoded", "headers")

    def __init__(self, headers: Headers) -> None:
        self.headers = headers
        self.encoded: Any = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a listener accepts; what is beyond is refused and the connection closed. Raises `ConfigError`."""

    body: int = 4 * 1024 * 1024
    """Bytes of one message's body."""
    headers: int = 64 * 1024
    """Bytes of one message's headers together."""
    header_seconds: float = 5.0
    """From the first byte of a message to the end of its headers, and from the connect to the first of them."""
    calls: int = 100
    """Calls in flight on one connection; further ones wait unread."""
    calls_in_progress: int = 10_000
    """Calls, streams and events that one server handles at a time, on all connections together; the newest beyond them
    are refused as not executed."""
    bytes_in_flight: int = 256 * 1024 * 1024
    """Bytes of the bodies of calls and events that are handled at a time, on all connections together: the newest
    beyond them are refused as not executed. As much again may lie in requests that are not all here."""
    idle_seconds: float = 180.0
    """How long a connection without calls is kept; Go Micro's pool relies on 60 and more (docs/wire.md §2.2)."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` for what no listener could keep to."""
        for name in ("body", "headers", "calls", "calls_in_progress", "bytes_in_flight"):
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ConfigError(f"Limits({name}={count!r}) is not valid: a whole number from 1")
        for name in ("header_seconds", "idle_seconds"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not seconds > 0:
                raise ConfigError(f"Limits({name}={seconds!r}) is not valid: seconds, more than 0")


class Stream(ABC):
    """Messages both ways, in order. One task may send while another receives."""

    @abstractmethod
    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        """Send ``head`` overlaid with ``headers``, and a body; waits for a slow peer. Raises `ConnectionLost`."""

    @abstractmethod
    async def receive(self) -> Message:
        """Return the next message. Raises `ConnectionLost` when the peer is gone, `ProtocolError` for nonsense."""

    def discard(self) -> None:
        """Take note that nobody receives any more: what is unread is dropped, and so is what still comes.

        A stream that does nothing here may keep a request from being abandoned until its messages were received.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Send what is queued, bounded in time, and let go of the connection. Closing twice is fine."""


class Request(ABC):
    """One request as a listener hands it to the server; answered once, by `respond`, unless it opens a stream."""

    __slots__ = ("abandon", "body", "headers", "local", "peer", "received_at", "remote", "stream")

    def __init__(self, headers: Headers, body: bytes, *, local: str, remote: str, stream: Stream | None = None) -> None:
        self.headers = headers
        self.body = body
        self.local = local
        """The listener's address."""
        self.remote = remote
        """The caller's address."""
        self.stream = stream
        """Where the request carries ``Micro-Stream``: the stream that it opens, without this first message."""
        self.peer: tuple[str, ...] = ()
        """The names in the certificate that the caller was verified by (mutual TLS)."""
        self.received_at: float | None = None
        """When it was read, on the clock of `anyio.current_time`: its ``Timeout`` counts from then. None,
        where the transport does not tell: from when it is handed on."""
        self.abandon: Callable[[], object] | None = None
        """Set by the server: called, at most once, when the caller went away or gave up before the answer."""

    @abstractmethod
    def respond(self, head: Head, headers: Headers, body: bytes) -> None:
        """Answer: ``head`` overlaid with ``headers``. Never waits and never fails; without a caller it is dropped.

        The transport itself returns the request's ``Micro-Id``, and keeps its side of back-pressure by reading no
        further requests of a connection whose answers are not taken.
        """


class Listener(ABC):
    """A bound address."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The address bound, ``host:port`` with the real port."""

    @abstractmethod
    async def stop_accepting(self) -> None:
        """Take no new connections; those there are go on."""


class Channel(ABC):
    """The client's view of one node. Made without I/O; connects when needed."""

    @abstractmethod
    async def call(self, head: Head, id: int, headers: Headers, body: bytes, deadline: float) -> Message:
        """Send a request and return the reply; cancelling tells the peer to stop where the protocol can say so.

        ``id`` goes out as ``Micro-Id``, and no two calls that are under way share one. ``deadline`` is on the clock of
        `anyio.current_time`, `math.inf` for none.

        Raises `ConnectFailed` (nothing was sent), `ConnectionLost` (with `executed`), `Timeout` when the deadline
        passed (`executed` no where nothing was sent, else maybe), `LimitExceeded` and `BadRequest` where the peer
        refused the message, `ProtocolError`, `Closed`.
        """

    @abstractmethod
    async def open_stream(self, deadline: float) -> Stream:
        """Connect and return a stream; its first message is for the caller to send.

        Raises `ConnectFailed`, `Timeout`, `Closed`.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Close the idle connections now, and the others as their calls end. Closing twice is fine."""


class Transport(ABC):
    """Messages from process to process. An async context manager that owns connections and tasks of its channels."""

    name: ClassVar[str]
    """The entry point's name, published in the metadata of nodes."""

    @abstractmethod
    def listen(
        self, address: str, receive: Callable[[Request], None], limits: Limits
    ) -> AbstractAsyncContextManager[Listener]:
        """Bind ``address`` (``host:port``, port 0 for any) and hand every request to ``receive``, which never waits.

        ``receive`` is called in the event loop's thread, outside any handler's context. Leaving closes the connections
        with what is in flight: whoever wants to drain waits before. Entering raises `ConfigError` for an address that
        cannot be bound.
        """

    @abstractmethod
    def connect(self, node: Node) -> Channel:
        """Return a channel to ``node``, without I/O. Raises `ConfigError` for an address that it cannot use."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """What a node here adds to its metadata, so that peers know what it speaks (docs/protocol.md §2)."""
        return {}

    async def aclose(self) -> None:
        """Close all channels. Closing twice is fine."""

    async def __aenter__(self) -> Self:
        """Open what the transport needs."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
