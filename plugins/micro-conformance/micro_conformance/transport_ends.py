"""Both ends of a transport under test: a channel, and a listener whose peer answers or holds what it gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AsyncExitStack

import anyio

from micro_conformance.proxy import TcpProxy
from micro_core import Channel, Head, Headers, Listener, Message, Request, Stream, Transport

__all__ = ["HEAD", "HOLD", "STREAM", "Ends", "Peer"]

HEAD: Headers = {
    b"Micro-Service": b"conformance",
    b"Micro-Endpoint": b"Conformance.Call",
    b"Content-Type": b"application/octet-stream",
}
HOLD: Headers = {b"Hold": b"1"}
"""Has the peer keep a call instead of answering it."""
STREAM: Headers = {b"Micro-Stream": b"7", b"Micro-Id": b"7"}
"""Makes a stream of its first message."""


class Peer:
    """Takes requests: answers calls with their own body, and keeps streams and what is to be held."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.abandoned: list[Request] = []
        self._changed = anyio.Event()
        self._head = Head({b"Answered-By": b"peer"})

    def receive(self, request: Request) -> None:
        """Take a request, as `Transport.listen` hands it over."""
        request.abandon = lambda: self._abandon(request)
        self.requests.append(request)
        if request.stream is None and b"Hold" not in request.headers:
            self.answer(request)
        self._wake()

    def answer(self, request: Request, headers: Headers | None = None, body: bytes | None = None) -> None:
        """Answer a request with its own body, or another."""
        request.respond(self._head, headers or {}, request.body if body is None else body)

    def _abandon(self, request: Request) -> None:
        self.abandoned.append(request)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def arrived(self, count: int = 1) -> Request:
        """Wait until as many requests came, and return the last of them."""
        while len(self.requests) < count:
            await self._changed.wait()
        return self.requests[count - 1]

    async def gave_up(self) -> Request:
        """Wait until a request was abandoned, and return it."""
        while not self.abandoned:
            await self._changed.wait()
        return self.abandoned[0]


class Ends:
    """Both ends."""

    def __init__(
        self,
        here: Transport,
        channel: Channel,
        peer: Peer,
        listener: Listener,
        proxy: TcpProxy | None,
        stack: AsyncExitStack,
    ) -> None:
        self.here = here
        self.channel = channel
        self.peer = peer
        self.listener = listener
        self._proxy = proxy
        self._stack = stack
        self._head = Head(HEAD)
        self._id = 0

    @property
    def proxy(self) -> TcpProxy:
        """What stands between both ends, where that was asked for."""
        assert self._proxy is not None, "ask for it: self.ends(proxied=True)"
        return self._proxy

    async def call(
        self,
        body: bytes = b"",
        headers: Mapping[bytes, bytes] | None = None,
        *,
        id: int = 0,
        deadline: float = math.inf,
    ) -> Message:
        """Make a call with an id of its own."""
        self._id += 1
        return await self.channel.call(self._head, id or self._id, dict(headers or {}), body, deadline)

    async def open(self) -> tuple[Stream, Stream]:
        """Return both ends of a new stream."""
        before = len(self.peer.requests)
        stream = await self.channel.open_stream(math.inf)
        await stream.send(self._head, STREAM, b"")
        request = await self.peer.arrived(before + 1)
        assert request.stream is not None, "a request with Micro-Stream opens a stream"
        return stream, request.stream

    async def leave(self) -> None:
        """Leave the listener's context, which is the same to a caller as losing the process behind it."""
        await self._stack.aclose()
