"""The transport: channels and listeners over HTTP, on whatever event loop it is opened."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import ClassVar, Self

import anyio

from micro_core import Channel, Closed, ConfigError, Limits, Listener, Node, Request, Tls, Transport
from micro_core.address import join_address
from micro_core.tls import HANDSHAKE_SECONDS

from .client.channel import GO_REST_SECONDS, HttpChannel
from .client.connecting import ClientOptions, Connector
from .io.addresses import dialled
from .io.asyncio_driver import AsyncioDriver
from .io.link import Driver
from .io.portable_driver import PortableDriver
from .server.door import Door
from .server.listener import HttpListener

__all__ = ["HttpTransport"]

_KNOWN = ("h2", "http/1.1")
"""What can be spoken, by the names that ALPN has for it (docs/protocol.md §2)."""

_HTTP1 = ("http/1.1",)

_ASK_AGAIN_SECONDS = 60.0
_REMEMBERED = 10_000


class HttpTransport(Transport):
    """Calls and streams over HTTP/2 with peers of ours, over HTTP/1.1 with all others (docs/protocol.md §2)."""

    name: ClassVar[str] = "http"

    def __init__(
        self,
        *,
        pool_size: int = 100,
        pool_ttl: float = 60.0,
        dial_timeout: float = 5.0,
        reply_headers: int = 1024 * 1024,
        reply_body: int = 4 * 1024 * 1024,
        native: bool = True,
        protocols: Sequence[str] = _KNOWN,
        handshake_timeout: float = HANDSHAKE_SECONDS,
        origins: Sequence[str] = (),
        hosts: Sequence[str] = (),
        tls: Tls | None = None,
    ) -> None:
        """Say how to call and listen; the README of this distribution explains each option."""
        for option, kept in (("pool_size", pool_size), ("pool_ttl", pool_ttl)):
            if not kept >= 0:
                raise ConfigError(f"{option}={kept!r} is not valid; it must be 0, which keeps no connection, or more")
        for option, value in (
            ("dial_timeout", dial_timeout),
            ("reply_body", reply_body),
            ("handshake_timeout", handshake_timeout),
        ):
            if not value > 0:
                raise ConfigError(f"{option}={value!r} is not valid; it must be more than 0")
        if not protocols or len(set(protocols)) != len(protocols) or not set(protocols) <= set(_KNOWN):
            raise ConfigError(
                f"protocols={','.join(protocols)} is not valid; write some of {','.join(_KNOWN)}, the preferred first"
            )
        self._protocols = tuple(protocols)
        self._native = native
        self._door = Door(origins=origins, hosts=hosts)
        self._handshake_timeout = handshake_timeout
        self._options = ClientOptions(
            pool_size=pool_size,
            pool_ttl=pool_ttl,
            dial_timeout=dial_timeout,
            reply_headers=reply_headers,
            reply_body=reply_body,
        )
        self._tls = tls or Tls()
        self._listening_tls = self._tls.for_server(self._protocols) if self._tls.listens else None
        self._calling_tls = self._tls.for_client(self._protocols) if self._tls.calls else None
        self._driver: Driver | None = None
        self._stack = AsyncExitStack()
        self._channels: set[HttpChannel] = set()
        self._refused: dict[str, float] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        """Take hold of the running event loop."""
        if self._closed or self._driver is not None:
            raise Closed("an http transport is opened once")
        if self._native and _is_asyncio():
            self._driver = AsyncioDriver()
        else:
            self._driver = await self._stack.enter_async_context(PortableDriver())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.aclose()
        finally:
            await self._stack.aclose()

    async def aclose(self) -> None:
        """Close all channels and listeners."""
        self._closed = True
        for channel in list(self._channels):
            await channel.aclose()
        if self._driver is not None:
            await self._driver.aclose()

    @property
    def metadata(self) -> Mapping[str, str]:
        """What tells a caller that it has to speak TLS (docs/protocol.md §1)."""
        return {"secure": "true"} if self._tls.listens else {}

    def _tls_for(self, node: Node, address: str) -> ssl.SSLContext | None:
        """Return what a node is called with. Raises `ConfigError` where that may not be clear text."""
        if self._calling_tls is None and node.metadata.get("secure") == "true":
            self._calling_tls = self._tls.for_client(self._protocols)
        elif self._calling_tls is None or (not self._tls.calls and node.metadata.get("secure") != "true"):
            self._tls.check_clear_text(address, "calls to")
            return None
        return self._calling_tls

    def connect(self, node: Node) -> Channel:
        """Return a channel of its own for each call: the pool of connections is the channel's."""
        host, port = dialled(node.address)
        address = join_address(host, port)
        # A node with metadata that does not name our protocol is a Go peer: HTTP/1.1 (docs/protocol.md §1).
        is_ours = "micro" in node.metadata or not node.metadata
        tls = self._tls_for(node, address)
        protocols = self._protocols if is_ours else _HTTP1

        def may_share(now: float) -> bool:
            return protocols != _HTTP1 and now >= self._refused.get(address, now)

        def refused_sharing(now: float) -> None:
            if len(self._refused) >= _REMEMBERED:
                self._refused.clear()
            self._refused[address] = now + _ASK_AGAIN_SECONDS

        connector = Connector(self._opened, address, host, port, self._options, tls=tls, protocols=protocols)
        channel = HttpChannel(
            connector,
            self._options,
            rest=0.0 if "micro" in node.metadata else GO_REST_SECONDS,
            may_share=may_share,
            refused_sharing=refused_sharing,
            closed=self._channels.discard,
        )
        self._channels.add(channel)
        return channel

    def listen(
        self, address: str, receive: Callable[[Request], None], limits: Limits
    ) -> AbstractAsyncContextManager[Listener]:
        """Bind ``address``, which may name a range of ports (``host:5000-6000``): the first free one is taken."""
        return self._listening(address, receive, limits)

    @asynccontextmanager
    async def _listening(
        self, address: str, receive: Callable[[Request], None], limits: Limits
    ) -> AsyncIterator[Listener]:
        if self._listening_tls is None:
            self._tls.check_clear_text(address, "the listener at", listens=True)
        listener = HttpListener(
            self._opened(),
            address,
            receive,
            limits,
            speaks_http2="h2" in self._protocols,
            door=self._door,
            tls=self._listening_tls,
            handshake_timeout=self._handshake_timeout,
        )
        await listener.bind()
        try:
            yield listener
        finally:
            with anyio.CancelScope(shield=True):
                await listener.aclose()

    def _opened(self) -> Driver:
        if self._driver is None or self._closed:
            raise Closed("this http transport is not open; use it as an async context manager")
        return self._driver

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._driver is not None else "not opened"
        return f"<HttpTransport {state}, {len(self._channels)} channels>"


def _is_asyncio() -> bool:
    """Whether this task is asyncio's own: a loop may run without it, as trio's guest."""
    try:
        return asyncio.current_task() is not None
    except RuntimeError:
        return False
