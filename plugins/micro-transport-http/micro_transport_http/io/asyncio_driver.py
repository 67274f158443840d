"""Links on asyncio itself: protocols, futures and the loop's timers, for speed (docs/transport.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from micro_core.sockets import listening_socket

from .addresses import name_of
from .handshake import Handshake, unsealed
from .keepalive import keep_alive
from .link import HIGH_WATER, Accepting, Driver, Link, MakeOwner, Owner, Timer
from .tls import TlsSession

__all__ = ["AsyncioDriver"]

_TOGETHER = 8
"""How many messages leave in one write: the peer works on them while more are made. Where all of a turn of the loop
leave in one write, each side waits while the other works, and 16 or 64 callers make half as many calls."""


class AsyncioLink(asyncio.Protocol, Link):
    """One connection, as asyncio's protocol."""

    owner: Owner

    def __init__(self, driver: AsyncioDriver, make_owner: MakeOwner, links: set[AsyncioLink]) -> None:
        self._loop = driver.loop
        self._make_owner = make_owner
        self._links = links
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._size = 0
        self._gathered: list[Callable[[], object]] = []
        self._draining: list[asyncio.Future[None]] = []
        self._finishing: asyncio.TimerHandle | None = None
        self._is_handing = False
        """Bytes are with the owner: what it answers meanwhile leaves together, when it is done with them."""
        self.gone = self._loop.create_future()
        """Done when the loop has closed the socket."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.lost:
            self._transport.abort()
            return
        keep_alive(transport.get_extra_info("socket"))
        self.local = name_of(transport.get_extra_info("sockname"))
        self.remote = name_of(transport.get_extra_info("peername"))
        self._links.add(self)
        self.owner = self._make_owner(self)

    def data_received(self, data: bytes) -> None:
        if self._finishing is None:
            self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        self._is_handing = True
        self.owner.received(data)
        self._is_handing = False
        if self._out or self._gathered:
            self._flush()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self.was_cut = self.was_cut or error is not None
        self._end()
        if self._finishing is not None:
            self._finishing.cancel()
        self._links.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)

    def pause_writing(self) -> None:
        self.is_writable = False
        self.owner.writable(False)

    def resume_writing(self) -> None:
        self.is_writable = True
        self._wake()
        self.owner.writable(True)

    def write(self, data: bytes, *, alone: bool = False) -> None:
        if self.lost:
            return
        self._out.append(data)
        self._size += len(data)
        if len(self._out) == _TOGETHER or self._size > HIGH_WATER or (alone and not self._is_handing):
            self._flush()
        elif len(self._out) == 1 and not (self._is_handing or self._gathered):
            self._loop.call_soon(self._flush)

    def before_flush(self, write: Callable[[], object]) -> None:
        if not (self._is_handing or self._out or self._gathered):
            self._loop.call_soon(self._flush)
        self._gathered.append(write)

    def _gather(self) -> None:
        """Have everything written that belongs to this turn."""
        gathered, self._gathered = self._gathered, []
        for write in gathered:
            write()

    def _flush(self) -> None:
        if self._gathered:
            self._gather()
        if self._out and self._transport is not None:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._size = 0
            if not self._transport.is_closing():
                self._transport.write(data)

    async def drain(self) -> None:
        if self.is_writable or self.lost:
            await asyncio.sleep(0)
        while not (self.is_writable or self.lost):
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._draining.append(waiter)
            await waiter

    def pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self, seconds: float) -> None:
        transport = self._transport
        if self.lost or self._finishing is not None or transport is None:
            return
        self._flush()
        self._finishing = self._loop.call_later(seconds, self.close)
        self.resume()
        if transport.can_write_eof():
            transport.write_eof()

    def close(self) -> None:
        self._end()
        if self._transport is not None:
            self._transport.abort()

    def forsake(self) -> None:
        """Abandon a connect that was cancelled; uvloop may finish it all the same, and never report its end."""
        self._out.clear()  # there may be nothing left to write to
        self._gathered.clear()
        self._links.discard(self)
        if self._transport is not None:
            self.close()
        self.lost = True

    def _end(self) -> None:
        """Tell the owner, once, that the connection is gone; asyncio itself closes after an end of file."""
        if not self.lost:
            self._flush()
            self.lost = True
            self._wake()
            self.owner.lost()

    def _wake(self) -> None:
        for waiter in self._draining:
            if not waiter.done():
                waiter.set_result(None)
        self._draining.clear()


class AsyncioTlsLink(AsyncioLink):
    """A connection under TLS: what is sent is encrypted when it leaves, what arrives is decrypted first."""

    def __init__(
        self,
        driver: AsyncioDriver,
        make_owner: MakeOwner,
        links: set[AsyncioLink],
        session: TlsSession,
        *,
        is_listener: bool,
    ) -> None:
        def handshake(link: Link) -> Owner:
            return Handshake(driver, link, session, make_owner, is_listener=is_listener)

        super().__init__(driver, handshake, links)
        self._session = session
        self._is_listener = is_listener
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not (self._is_listener or self.lost):
            self.data_received(b"")

    def data_received(self, data: bytes) -> None:
        if self._finishing is not None:
            return
        plain = unsealed(self, self._session, data, self._flush)
        if plain and self._finishing is None and not self.lost:
            self._hand_over(plain)
        self._end_if_over()

    def eof_received(self) -> None:
        self.was_cut = not self._session.is_over
        super().eof_received()

    def _end_if_over(self) -> None:
        """End it when the peer has sent close_notify, and all that came before was read."""
        if self._session.is_over and not (self._is_paused or self.lost or self._transport is None):
            self._end()
            self._transport.close()

    def pause(self) -> None:
        self._is_paused = True
        super().pause()

    def resume(self) -> None:
        self._is_paused = False
        super().resume()
        self._end_if_over()

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if self._gathered:
            self._gather()
        plain = b"".join(self._out)
        self._out.clear()
        self._size = 0
        data = self._session.seal(plain)
        if data:
            transport.write(data)

    def finish(self, seconds: float) -> None:
        transport = self._transport
        if not self.lost and self._finishing is None and transport is not None and not transport.is_closing():
            self._flush()
            transport.write(self._session.bye())
        super().finish(seconds)


class AsyncioAccepting(Accepting):
    """A listening socket and the links it made."""

    def __init__(self, server: asyncio.Server, links: set[AsyncioLink]) -> None:
        self.address = name_of(server.sockets[0].getsockname())
        self._server = server
        self._links = links

    async def stop(self) -> None:
        self._server.close()

    async def aclose(self) -> None:
        self._server.close()
        await _closed(self._links)


class AsyncioDriver(Driver):
    """Connects and listens with asyncio's own transports."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.waiter = self.loop.create_future
        is_asyncio = type(self.loop).time is asyncio.BaseEventLoop.time
        self.time = time.monotonic if is_asyncio else self.loop.time  # the same, in half of the time
        self._links: set[AsyncioLink] = set()
        self._accepting: list[AsyncioAccepting] = []

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        return self.loop.call_at(when, callback)

    async def connect(self, host: str, port: int, make_owner: MakeOwner, tls: TlsSession | None = None) -> Link:
        if tls is None:
            link = AsyncioLink(self, make_owner, self._links)
        else:
            link = AsyncioTlsLink(self, make_owner, self._links, tls, is_listener=False)
        try:
            await self.loop.create_connection(lambda: link, host, port)
            if isinstance(link.owner, Handshake):
                await link.owner.outcome()
        except BaseException:
            link.forsake()
            raise
        return link

    async def listen(
        self, host: str, port: int, make_owner: MakeOwner, new_tls: Callable[[], TlsSession] | None = None
    ) -> Accepting:
        links: set[AsyncioLink] = set()

        def new_link() -> AsyncioLink:
            if new_tls is None:
                return AsyncioLink(self, make_owner, links)
            return AsyncioTlsLink(self, make_owner, links, new_tls(), is_listener=True)

        socket = await listening_socket(host, port)
        try:
            server = await self.loop.create_server(new_link, sock=socket, backlog=1024)
        except BaseException:
            socket.close()
            raise
        accepting = AsyncioAccepting(server, links)
        self._accepting.append(accepting)
        return accepting

    async def aclose(self) -> None:
        for accepting in self._accepting:
            await accepting.aclose()
        self._accepting.clear()
        await _closed(self._links)


async def _closed(links: set[AsyncioLink]) -> None:
    """Close links, and wait until the loop has closed their sockets."""
    there = list(links)
    for link in there:
        link.close()
    for link in there:
        # Shielded by its own brevity: an aborted transport is gone in the next turn of the loop.
        await asyncio.shield(link.gone)
