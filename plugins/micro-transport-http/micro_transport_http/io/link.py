"""The seam between the protocol and the event loop: links carry bytes, a driver makes links, timers and waiters.

All decisions are plain synchronous code above this seam; only the drivers, `asyncio_driver` and `portable_driver`, know
an event loop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Protocol

from .tls import TlsSession

__all__ = ["HIGH_WATER", "Accepting", "Driver", "Link", "MakeOwner", "Owner", "Timer", "Waiter"]

HIGH_WATER = 64 * 1024
"""Bytes that may wait to be sent before a link stops being writable."""


class Owner(Protocol):
    """The receiver of a link's bytes; asyncio would call it a protocol."""

    def received(self, data: bytes) -> None:
        """Take bytes that the peer sent."""

    def lost(self) -> None:
        """Take note that the connection is gone: nothing is received or sent any more. Called once."""

    def writable(self, writable: bool) -> None:
        """Take note of backpressure: the peer fell behind (false), or caught up (true)."""


class Link(ABC):
    """A connection as a stream of bytes."""

    owner: Owner
    local: str
    remote: str
    is_writable: bool = True
    lost: bool = False
    was_cut: bool = False
    """Whether it ended in the middle: by a reset, or under TLS without close_notify (RFC 8446 §6.1)."""
    protocol: str = ""
    """The protocol that ALPN negotiated; empty without TLS."""
    peer: tuple[str, ...] = ()
    """The names in the certificate that the caller was verified by."""
    refusal: str = ""
    """Why TLS ended it, a sentence about the peer; nothing was executed then."""

    @abstractmethod
    def write(self, data: bytes, *, alone: bool = False) -> None:
        """Queue ``data``; it leaves with what else is queued in this turn of the loop, or at once if it is ``alone``.

        Without a peer it is dropped.
        """

    @abstractmethod
    def before_flush(self, write: Callable[[], object]) -> None:
        """Call ``write``, which writes what was gathered until then, when what is queued in this turn leaves."""

    @abstractmethod
    async def drain(self) -> None:
        """Wait until the link is writable or lost, and give the loop a turn."""

    async def sent(self) -> None:
        """Wait until what is queued was handed to the operating system, where a link buffers beyond that."""

    @abstractmethod
    def pause(self) -> None:
        """Stop reading, so that the peer is held back."""

    @abstractmethod
    def resume(self) -> None:
        """Start reading again."""

    @abstractmethod
    def finish(self, seconds: float) -> None:
        """Send what is queued and say that it was the last; ignore what still comes, and close when the peer does."""

    @abstractmethod
    def close(self) -> None:
        """Abort the connection; what is queued may be lost. Calls ``owner.lost`` before it returns."""


class Waiter(Protocol):
    """A value that one task awaits: an `asyncio.Future`, or its like."""

    def set_result(self, value: Any, /) -> None: ...

    def done(self) -> bool: ...

    def __await__(self) -> Generator[Any, Any, Any]: ...


class Timer(Protocol):
    """A callback that is scheduled."""

    def cancel(self) -> object: ...


MakeOwner = Callable[[Link], Owner]


class Accepting(ABC):
    """A listening socket."""

    address: str

    @abstractmethod
    async def stop(self) -> None:
        """Close the listening socket. Twice is fine."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the listening socket and every link it made, and wait until they are gone."""


class Driver(ABC):
    """I/O on one kind of event loop. Opened and closed by the transport."""

    waiter: Callable[[], Waiter]
    time: Callable[[], float]

    @abstractmethod
    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` at ``when`` on the clock of `time`."""

    @abstractmethod
    async def connect(self, host: str, port: int, make_owner: MakeOwner, tls: TlsSession | None = None) -> Link:
        """Return a link to an address, under TLS where there is a session for it. Raises `OSError`."""

    @abstractmethod
    async def listen(
        self, host: str, port: int, make_owner: MakeOwner, new_tls: Callable[[], TlsSession] | None = None
    ) -> Accepting:
        """Bind an address, ``""`` for all interfaces; with ``new_tls`` its links speak TLS. Raises `OSError`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close every link and end every task. Twice is fine."""
