"""Calls to one node: over the one connection that carries many, or over pooled ones that carry one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import TYPE_CHECKING, cast

import anyio

from micro_core import Channel, Closed, ConnectFailed, Executed, Head, Headers, Message, MicroError, Stream, Timeout
from micro_transport_http.http1.parser import MUX
from micro_transport_http.http1.writer import message, request_line
from micro_transport_http.io.link import Driver, Link, MakeOwner, Owner, Waiter
from micro_transport_http.io.tls import TlsSession

from .connection import ClientStream, MuxConnection, SingleConnection
from .pool import Pool

if TYPE_CHECKING:
    from .http2 import H2Client

__all__ = ["GO_REST_SECONDS", "ClientOptions", "HttpChannel"]

_ONE_AT_A_TIME = ("http/1.1",)
"""What is offered by ALPN for a connection that carries one call, or one stream."""

GO_REST_SECONDS = 0.01
"""How long a connection to a Go peer rests between two calls. Go Micro's servers from v4.10 on answer first and forget
the call a moment later; a request that comes in between is never answered (docs/wire.md §3.2)."""
_LARGE = 64 * 1024
"""Larger requests take a connection of their own, so that they hold up nobody (docs/protocol.md §2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What the transport's options say about calling."""

    pool_size: int
    pool_ttl: float
    dial_timeout: float
    reply_headers: int
    reply_body: int


class HttpChannel(Channel):
    """The client's view of one address."""

    def __init__(
        self,
        driver: Callable[[], Driver],
        address: str,
        host: str,
        port: int,
        options: ClientOptions,
        *,
        rest: float,
        may_ask: Callable[[float], bool],
        refused_asking: Callable[[float], None],
        closed: Callable[[HttpChannel], None],
        tls: SSLContext | None = None,
        protocols: Sequence[str] = (),
    ) -> None:
        self._get_driver = driver
        self._address = address
        self._host = host
        self._port = port
        self._options = options
        self._rest = rest
        self._may_ask = may_ask
        self._refused_asking = refused_asking
        self._start = request_line(address)
        self._pool: Pool | None = None
        self._mux: MuxConnection | None = None
        """The one of ``_muxes`` that had room last."""
        self._muxes: list[MuxConnection] = []
        self._asking: list[Waiter] | None = None
        self._on_closed = closed
        self._tls = tls
        self._protocols = tuple(protocols)
        self._h2s: list[H2Client] = []
        self._closed = False

    async def call(self, head: Head, id: int, headers: Headers, body: bytes, deadline: float) -> Message:
        key = b"%d" % id
        data = message(self._start, head, key, headers, body)
        if self._h2s:
            return await self._call_over_h2(head, key, headers, body, deadline)
        mux = self._mux
        if mux is None or mux.is_full or len(data) > _LARGE:
            mux = await self._connection_for(data, deadline)
            if self._h2s:
                return await self._call_over_h2(head, key, headers, body, deadline)
            if mux is None:
                return await self._call_alone(data, deadline)
        if deadline <= mux.time():
            raise self._too_late()
        waiter = mux.send(key, data, deadline)
        try:
            outcome: Message | MicroError = await waiter
        except BaseException:
            mux.forget(key)
            raise
        if outcome.__class__ is Message:
            return outcome
        raise outcome  # type: ignore[misc]

    async def open_stream(self, deadline: float) -> Stream:
        driver = self._open()
        options = self._options
        if "h2" in self._protocols:
            await self._connection_for(b"", deadline)
            if self._h2s:
                over = await self._h2_with_room(deadline)
                return over.open_stream(self._start, headers=options.reply_headers, body=options.reply_body)

        def owner(link: Link) -> ClientStream:
            return ClientStream(
                driver, link, self._address, self._start, headers=options.reply_headers, body=options.reply_body
            )

        link = await self._dial(owner, deadline)
        assert isinstance(link.owner, ClientStream)
        return link.owner

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._on_closed(self)
        if self._pool is not None:
            self._pool.close()
        for mux in tuple(self._muxes):
            mux.finish()
        self._muxes.clear()
        self._mux = None
        for over in tuple(self._h2s):
            over.finish()
        self._h2s.clear()

    def _open(self) -> Driver:
        if self._closed:
            raise Closed(f"the channel to {self._address} is closed")
        return self._get_driver()

    # ------------------------------------------------------------------------------------------ one at a time

    async def _call_alone(self, data: bytes, deadline: float) -> Message:
        pool = self._the_pool()
        connection = await pool.take()
        if connection is None:
            connection = await self._dial_or_hurry(pool, deadline)
        if self._get_driver().time() >= deadline:
            pool.give_back(connection)
            raise self._too_late()
        reply = await connection.call(data, deadline)
        pool.give_back(connection)
        return reply

    def _the_pool(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(self._get_driver(), self._options.pool_size, self._options.pool_ttl, self._rest)
        return self._pool

    async def _dial_or_hurry(self, pool: Pool, deadline: float) -> SingleConnection:
        """Return a new connection or, from a peer that takes none any more, one that has not rested."""
        try:
            return await self._dial_single(deadline)
        except ConnectFailed:
            connection = await pool.take(rested=False)
            if connection is None:
                raise
            return connection

    async def _dial_single(self, deadline: float) -> SingleConnection:
        driver, options = self._get_driver(), self._options

        def owner(link: Link) -> SingleConnection:
            return SingleConnection(driver, link, self._address, headers=options.reply_headers, body=options.reply_body)

        link = await self._dial(owner, deadline)
        assert isinstance(link.owner, SingleConnection)
        return link.owner

    async def _dial(self, owner: MakeOwner, deadline: float, protocols: Sequence[str] = _ONE_AT_A_TIME) -> Link:
        driver = self._get_driver()
        started = driver.time()
        if deadline <= started:
            raise self._too_late()
        link: Link | None = None
        try:
            with anyio.CancelScope(deadline=min(deadline, started + self._options.dial_timeout)):
                link = await driver.connect(self._host, self._port, owner, self._new_tls(protocols))
        except OSError as error:
            text = error.strerror or str(error) or type(error).__name__
            raise ConnectFailed(f"cannot connect to {self._address}: {text}", node=self._address) from error
        if link is not None:
            return link
        if deadline <= driver.time():
            raise self._too_late()
        raise ConnectFailed(
            f"cannot connect to {self._address}: no answer within {self._options.dial_timeout:g} s", node=self._address
        )

    def _new_tls(self, protocols: Sequence[str]) -> TlsSession | None:
        if self._tls is None:
            return None
        return TlsSession(self._tls, server=False, name=self._host, protocols=protocols)

    def _too_late(self) -> Timeout:
        return Timeout(f"the deadline passed before the call to {self._address} was sent", executed=Executed.NO)

    # ------------------------------------------------------------------------------------------ many at once

    async def _connection_for(self, data: bytes, deadline: float) -> MuxConnection | None:
        """Return a connection that carries many calls and has room, asking for one; none where the call goes alone."""
        while True:
            driver = self._open()
            if len(data) > _LARGE:
                return None
            if self._h2s and not all(over.is_full for over in self._h2s):
                return None
            if self._choose_mux():
                return self._mux
            if not self._may_ask(driver.time()):
                return None
            if self._asking is None:
                return await self._ask(deadline)
            await self._wait_for_asking(deadline)

    def _choose_mux(self) -> bool:
        """Take the first connection with room, so that others fall idle; the least busy where there are many."""
        for mux in self._muxes:
            if not mux.is_full:
                self._mux = mux
                return True
        if len(self._muxes) < self._options.pool_size:
            return False
        self._mux = min(self._muxes, key=lambda mux: mux.in_flight)
        return True

    async def _wait_for_asking(self, deadline: float) -> None:
        """Wait until another call has asked."""
        assert self._asking is not None
        waiter = self._get_driver().waiter()
        self._asking.append(waiter)
        with anyio.CancelScope(deadline=deadline) as scope:
            failed: ConnectFailed | None = await waiter
            if failed is not None:
                raise ConnectFailed(failed.detail, node=failed.node) from failed
        if scope.cancelled_caught:
            raise self._too_late()

    async def _ask(self, deadline: float) -> MuxConnection | None:
        driver = self._get_driver()
        waiting: list[Waiter] = []
        self._asking = waiting
        failed: ConnectFailed | None = None
        try:
            link = await self._dial(self._owner_of_many, deadline, self._protocols)
            if isinstance(link.owner, SingleConnection):
                connection = link.owner
            else:
                await self._over_h2(link.owner, deadline)
                return None
            calls = await self._calls_taken(connection, deadline)
            if calls:
                return self._multiplexed(connection.link, calls)
            self._refused_asking(driver.time())
            if connection.is_reusable:
                self._the_pool().give_back(connection)
            else:
                connection.link.close()
            return None
        except ConnectFailed as error:
            failed = ConnectFailed(error.detail, node=error.node)  # before it is told which call it was
            raise
        finally:
            self._asking = None
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(failed)

    # ------------------------------------------------------------------------------------------ over HTTP/2

    def _owner_of_many(self, link: Link) -> Owner:
        """Return what speaks the protocol that was agreed on."""
        driver, options = self._get_driver(), self._options
        if link.protocol == "h2":
            from .http2 import H2Client

            return H2Client(
                driver, link, self._address, self._h2_ended, headers=options.reply_headers, body=options.reply_body
            )
        return SingleConnection(driver, link, self._address, headers=options.reply_headers, body=options.reply_body)

    async def _over_h2(self, owner: Owner, deadline: float) -> None:
        """Take a new connection into use once the peer has said what it takes."""
        over = cast("H2Client", owner)
        driver = self._get_driver()
        with anyio.CancelScope(deadline=min(deadline, driver.time() + self._options.dial_timeout)) as scope:
            await over.ready()
        if scope.cancelled_caught:
            over.link.close()
            if driver.time() >= deadline:
                raise self._too_late()
            raise ConnectFailed(f"cannot connect to {self._address}: no HTTP/2 SETTINGS in time", node=self._address)
        if self._closed:
            over.finish()
        elif not over.link.lost:
            self._h2s.append(over)

    async def _h2_with_room(self, deadline: float) -> H2Client:
        """Return a connection that takes one more, a new one where all are full."""
        while True:
            for over in self._h2s:
                if not over.is_full:
                    return over
            if len(self._h2s) >= max(self._options.pool_size, 1):
                return min(self._h2s, key=lambda over: over.in_flight)
            if self._asking is None:
                await self._ask(deadline)
            else:
                await self._wait_for_asking(deadline)
            if not self._h2s:
                raise ConnectFailed(f"{self._address} speaks HTTP/2 no more", node=self._address)

    async def _call_over_h2(self, head: Head, key: bytes, headers: Headers, body: bytes, deadline: float) -> Message:
        over = self._h2s[0]
        if over.is_full:
            over = await self._h2_with_room(deadline)
        if deadline <= self._get_driver().time():
            raise self._too_late()
        return await over.call(head, key, headers, body, deadline)

    def _h2_ended(self, over: H2Client) -> None:
        if over in self._h2s:
            self._h2s.remove(over)

    async def _calls_taken(self, connection: SingleConnection, deadline: float) -> int:
        """Return how many calls the peer takes at once, 0 where it takes one.

        Under TLS it was asked in the handshake, and a peer that agreed says it unasked (docs/protocol.md §2).
        """
        if self._tls is not None and connection.link.protocol != MUX.decode():
            return 0
        driver = self._get_driver()
        until = driver.time() + self._options.dial_timeout
        try:
            return await connection.ask(b"" if self._tls is not None else self._question(), min(deadline, until))
        except ConnectFailed:
            raise
        except MicroError:
            if driver.time() >= deadline:
                raise self._too_late() from None
            return 0

    def _question(self) -> bytes:
        return b"OPTIONS * HTTP/1.1\r\nHost: %b\r\nConnection: Upgrade\r\nUpgrade: %b\r\nContent-Length: 0\r\n\r\n" % (
            self._address.encode(),
            MUX,
        )

    def _multiplexed(self, link: Link, calls: int) -> MuxConnection:
        options = self._options
        mux = MuxConnection(
            self._get_driver(),
            link,
            self._address,
            self._start,
            self._mux_ended,
            calls=calls,
            headers=options.reply_headers,
            body=options.reply_body,
        )
        link.owner = mux
        if not self._closed:
            self._mux = mux
            self._muxes.append(mux)
        if link.lost:
            mux.lost()
        return mux

    def _mux_ended(self, mux: MuxConnection) -> None:
        if mux in self._muxes:
            self._muxes.remove(mux)
        if self._mux is mux:
            self._mux = None

    def __repr__(self) -> str:
        calls = sum(mux.in_flight for mux in self._muxes)
        state = "closed" if self._closed else f"multiplexed, {calls} calls" if self._muxes else "open"
        return f"<HttpChannel {self._address} {state}>"
