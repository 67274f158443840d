"""A listener: accepts connections, and times out those that are idle or slow."""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLContext
from typing import TypeVar

from micro_core import ConfigError, Limits, Listener, Request
from micro_core.address import port_range
from micro_core.tls import HANDSHAKE_SECONDS
from micro_transport_http.http1.refusal import Refusal, sounds_like_call
from micro_transport_http.io.link import Accepting, Driver, Link, Owner, Timer
from micro_transport_http.io.tls import TlsSession

from .door import Door
from .greeting import Greeting
from .http1 import Http1Server
from .http2 import Http2Server

__all__ = ["HttpListener"]

Protocol = TypeVar("Protocol", Http1Server, Http2Server)

_NEEDS_TLS = Refusal(400, "this port speaks TLS, and clear text came: call it with TLS (docs/tls.md)")


def _answer_in_clear_text(data: bytes) -> bytes:
    return _NEEDS_TLS.encode_for_call() if sounds_like_call(data) else _NEEDS_TLS.encode()


class HttpListener(Listener):
    """A bound address and the connections that callers made to it."""

    def __init__(
        self,
        driver: Driver,
        address: str,
        receive: Callable[[Request], None],
        limits: Limits,
        *,
        speaks_http2: bool = True,
        door: Door,
        tls: SSLContext | None = None,
        handshake_timeout: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._driver = driver
        self._wanted = address
        self._receive = receive
        self._limits = limits
        self._speaks_http2 = speaks_http2
        self._door = door
        self._tls = tls
        self._handshake_timeout = handshake_timeout
        self._accepting: Accepting | None = None
        self._connections: set[Http1Server | Http2Server] = set()
        self._timer: Timer | None = None
        self._tick = min(1.0, limits.header_seconds / 4, limits.idle_seconds / 4)

    async def bind(self) -> None:
        """Listen on the first port that is free. Raises `ConfigError`."""
        host, ports = port_range(self._wanted)
        last: OSError | None = None
        for port in ports:
            try:
                new_tls = None if self._tls is None else self._new_tls
                self._accepting = await self._driver.listen(host, port, self._connected, new_tls)
                return
            except OSError as error:
                last = error
        reason = (last.strerror or str(last)) if last is not None else "no port"
        raise ConfigError(f"cannot listen on {self._wanted}: {reason}") from last

    def _new_tls(self) -> TlsSession:
        assert self._tls is not None
        return TlsSession(
            self._tls, server=True, patience=self._handshake_timeout, clear_text_answer=_answer_in_clear_text
        )

    @property
    def address(self) -> str:
        return self._accepting.address if self._accepting is not None else self._wanted

    async def stop_accepting(self) -> None:
        if self._accepting is not None:
            await self._accepting.stop()
        for connection in list(self._connections):
            connection.drain()

    async def aclose(self) -> None:
        """Close the listening socket and every connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._accepting is not None:
            await self._accepting.aclose()

    def _connected(self, link: Link) -> Owner:
        """Return what speaks the protocol of a new connection."""
        if link.protocol == "h2":
            return self._served(Http2Server, link)
        http1 = self._served(Http1Server, link)
        if self._tls is not None or not self._speaks_http2:
            return http1

        def http2(link: Link) -> Owner:
            self._connections.discard(http1)
            return self._served(Http2Server, link)

        return Greeting(link, http1, http2)

    def _served(self, protocol: type[Protocol], link: Link) -> Protocol:
        """Return what speaks ``protocol`` on a link, watched until it ends."""
        connection = protocol(
            self._driver,
            link,
            self._receive,
            self._limits,
            local=self.address,
            door=self._door,
            ended=self._connections.discard,
        )
        self._connections.add(connection)
        if self._timer is None:
            self._watch()
        return connection

    def _watch(self) -> None:
        """Check the timeouts of all connections on one timer: cheaper than a timer for each message."""
        self._timer = None
        now = self._driver.time()
        for connection in list(self._connections):
            connection.check(now)
        self._bound_unfinished()
        if self._connections:
            self._timer = self._driver.call_at(now + self._tick, self._watch)

    def _bound_unfinished(self) -> None:
        """Where unfinished requests hold too much together, end the connections that hold most of it."""
        most = self._limits.bytes_in_flight
        held = sum(connection.unfinished for connection in self._connections)
        if held <= most:
            return
        for connection in sorted(self._connections, key=lambda each: each.unfinished, reverse=True):
            held -= connection.unfinished
            connection.cut_off(f"requests that are not all here hold more than {most} bytes")
            if held <= most:
                return

    def __repr__(self) -> str:
        return f"<HttpListener {self.address}, {len(self._connections)} connections>"
