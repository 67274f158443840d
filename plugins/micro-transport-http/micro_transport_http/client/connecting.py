"""New connections to one address: dialled, under TLS where that is due, in a protocol that the peer agrees to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import TYPE_CHECKING

import anyio

from micro_core import ConnectFailed, MicroError
from micro_transport_http.http1.parser import MUX
from micro_transport_http.http1.writer import request_line
from micro_transport_http.io.link import Driver, Link, MakeOwner, Owner
from micro_transport_http.io.tls import TlsSession

from .answers import too_late
from .multiplexed import MuxConnection
from .pooled import PooledConnection
from .single import SingleConnection
from .stream import ClientStream

if TYPE_CHECKING:
    from .http2 import H2Client

__all__ = ["ClientOptions", "Connector"]

_ONE_AT_A_TIME = ("http/1.1",)
"""What is offered by ALPN for a connection that carries one call, or one stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What the transport's options say about calling."""

    pool_size: int
    pool_ttl: float
    dial_timeout: float
    reply_headers: int
    reply_body: int


class Connector:
    """Makes connections of each kind. Whatever it makes raises `ConnectFailed`, or `Timeout` at the deadline."""

    def __init__(
        self,
        driver: Callable[[], Driver],
        address: str,
        host: str,
        port: int,
        options: ClientOptions,
        *,
        tls: SSLContext | None,
        protocols: Sequence[str],
    ) -> None:
        self.driver = driver
        self.address = address
        self._host = host
        self._port = port
        self._options = options
        self._tls = tls
        self._protocols = tuple(protocols)
        self._start = request_line(address)

    @property
    def offers_h2(self) -> bool:
        """Whether a peer may choose HTTP/2."""
        return "h2" in self._protocols

    # ------------------------------------------------------------------------------------------ kinds

    async def single(self, deadline: float) -> SingleConnection:
        """Return a connection for one call at a time."""
        link = await self._dial(self._new_single, deadline, _ONE_AT_A_TIME)
        assert isinstance(link.owner, SingleConnection)
        return link.owner

    async def stream(self, deadline: float) -> ClientStream:
        """Return a stream on a connection of its own."""
        link = await self._dial(self._new_stream, deadline, _ONE_AT_A_TIME)
        assert isinstance(link.owner, ClientStream)
        return link.owner

    async def shared(self, deadline: float) -> PooledConnection:
        """Return a connection for many calls; one for a call at a time where the peer does not agree."""
        link = await self._dial(self._new_agreed, deadline, self._protocols)
        if not isinstance(link.owner, SingleConnection):
            return await self._ready(link.owner, deadline)
        single = link.owner
        calls = await self._calls_taken(single, deadline)
        if not calls:
            single.release()
            return single
        options = self._options
        mux = MuxConnection(
            self.driver(),
            link,
            self.address,
            self._start,
            calls=calls,
            headers=options.reply_headers,
            body=options.reply_body,
        )
        link.owner = mux
        if link.lost:
            mux.lost()
        return mux

    def over(self, connection: PooledConnection) -> ClientStream:
        """Return a stream on a connection that interleaves."""
        h2: H2Client = connection  # type: ignore[assignment]
        return h2.open_stream(self._start, headers=self._options.reply_headers, body=self._options.reply_body)

    def _new_single(self, link: Link) -> SingleConnection:
        options = self._options
        return SingleConnection(
            self.driver(), link, self.address, self._start, headers=options.reply_headers, body=options.reply_body
        )

    def _new_stream(self, link: Link) -> ClientStream:
        options = self._options
        return ClientStream(
            self.driver(), link, self.address, self._start, headers=options.reply_headers, body=options.reply_body
        )

    def _new_agreed(self, link: Link) -> Owner:
        """Return what speaks the protocol that was agreed on."""
        if link.protocol != "h2":
            return self._new_single(link)
        from .http2 import H2Client

        options = self._options
        return H2Client(self.driver(), link, self.address, headers=options.reply_headers, body=options.reply_body)

    # ------------------------------------------------------------------------------------------ steps

    async def _dial(self, owner: MakeOwner, deadline: float, protocols: Sequence[str]) -> Link:
        driver = self.driver()
        started = driver.time()
        if deadline <= started:
            raise too_late(self.address)
        link: Link | None = None
        try:
            with anyio.CancelScope(deadline=min(deadline, started + self._options.dial_timeout)):
                link = await driver.connect(self._host, self._port, owner, self._new_tls(protocols))
        except OSError as error:
            text = error.strerror or str(error) or type(error).__name__
            raise ConnectFailed(f"cannot connect to {self.address}: {text}", node=self.address) from error
        if link is not None:
            return link
        if deadline <= driver.time():
            raise too_late(self.address)
        raise ConnectFailed(
            f"cannot connect to {self.address}: no answer within {self._options.dial_timeout:g} s", node=self.address
        )

    def _new_tls(self, protocols: Sequence[str]) -> TlsSession | None:
        if self._tls is None:
            return None
        return TlsSession(self._tls, server=False, name=self._host, protocols=protocols)

    async def _ready(self, owner: Owner, deadline: float) -> PooledConnection:
        """Return a connection of HTTP/2 once the peer has said what it takes."""
        h2: H2Client = owner  # type: ignore[assignment]
        driver = self.driver()
        with anyio.CancelScope(deadline=min(deadline, driver.time() + self._options.dial_timeout)) as scope:
            await h2.ready()
        if scope.cancelled_caught:
            h2.link.close()
            if driver.time() >= deadline:
                raise too_late(self.address)
            raise ConnectFailed(f"cannot connect to {self.address}: no HTTP/2 SETTINGS in time", node=self.address)
        return h2

    async def _calls_taken(self, connection: SingleConnection, deadline: float) -> int:
        """Return how many calls the peer takes at once, 0 where it takes one.

        Under TLS it was asked in the handshake, and a peer that agreed says it unasked (docs/protocol.md §2).
        """
        if self._tls is not None and connection.link.protocol != MUX.decode():
            return 0
        driver = self.driver()
        until = driver.time() + self._options.dial_timeout
        try:
            return await connection.ask(b"" if self._tls is not None else self._question(), min(deadline, until))
        except ConnectFailed:
            raise
        except MicroError:
            if driver.time() >= deadline:
                raise too_late(self.address) from None
            return 0

    def _question(self) -> bytes:
        return b"OPTIONS * HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: %b\r\nContent-Length: 0\r\n\r\n" % (
            self.address.encode(),
            MUX,
        )
