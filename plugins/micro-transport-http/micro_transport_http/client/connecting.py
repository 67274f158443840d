"""New connections to one address: dialled, under TLS where that is due, in a protocol that the peer agrees to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext

import anyio

from micro_core import ConnectFailed
from micro_transport_http.http1.writer import request_line
from micro_transport_http.io.link import Driver, Link, MakeOwner, Owner
from micro_transport_http.io.tls import TlsSession

from .answers import too_late
from .http1 import Http1Client
from .http1_stream import Http1ClientStream
from .http2 import Http2Client, NoHttp2
from .pooled import PooledConnection

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

    async def single(self, deadline: float) -> Http1Client:
        """Return a connection for one call at a time."""
        link = await self._dial(self._new_single, deadline, _ONE_AT_A_TIME)
        assert isinstance(link.owner, Http1Client)
        return link.owner

    async def stream(self, deadline: float) -> Http1ClientStream:
        """Return a stream on a connection of its own."""
        link = await self._dial(self._new_stream, deadline, _ONE_AT_A_TIME)
        assert isinstance(link.owner, Http1ClientStream)
        return link.owner

    async def shared(self, deadline: float) -> PooledConnection:
        """Return a connection for many calls; one for a call at a time where the peer does not speak HTTP/2 as we do.

        In clear text it is spoken at once (RFC 9113 §3.3), under TLS where the peer agrees (docs/protocol.md §2).
        """
        link = await self._dial(self._new_agreed, deadline, self._protocols)
        if isinstance(link.owner, Http1Client):
            link.owner.release()
            return link.owner
        assert isinstance(link.owner, Http2Client)
        if await self._is_ours(link.owner, deadline):
            return link.owner
        link.close()
        single = await self.single(deadline)
        single.release()
        return single

    def _new_single(self, link: Link) -> Http1Client:
        options = self._options
        return Http1Client(
            self.driver(), link, self.address, self._start, headers=options.reply_headers, body=options.reply_body
        )

    def _new_stream(self, link: Link) -> Http1ClientStream:
        options = self._options
        return Http1ClientStream(
            self.driver(), link, self.address, self._start, headers=options.reply_headers, body=options.reply_body
        )

    def _new_agreed(self, link: Link) -> Owner:
        """Return what speaks the protocol that was agreed on."""
        if self._tls is not None and link.protocol != "h2":
            return self._new_single(link)
        options = self._options
        return Http2Client(
            self.driver(),
            link,
            self.address,
            scheme=b"http" if self._tls is None else b"https",
            headers=options.reply_headers,
            body=options.reply_body,
        )

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

    async def _is_ours(self, client: Http2Client, deadline: float) -> bool:
        """Wait until the peer has said what it takes; return whether it speaks HTTP/2, and is one of ours."""
        driver = self.driver()
        try:
            with anyio.CancelScope(deadline=min(deadline, driver.time() + self._options.dial_timeout)):
                await client.ready()
                return True
        except NoHttp2:
            return False
        except BaseException:
            client.link.close()
            raise
        if driver.time() >= deadline:
            client.link.close()
            raise too_late(self.address)
        return False
