"""Transports on both drivers, and raw peers to talk to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from micro_core import Head, Node, Request
from micro_transport_http import HttpTransport

OURS = {"micro": "1", "protocol": "mucp"}
GO = {"protocol": "mucp", "server": "mucp"}

ANSWER_HEAD = Head({b"Content-Type": b"application/json"})


@pytest.fixture(params=[pytest.param(True, id="native"), pytest.param(False, id="portable")])
def native(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def open_transport(native: bool) -> Callable[..., HttpTransport]:
    """Make a transport on the driver under test."""

    def make(**options: Any) -> HttpTransport:
        return HttpTransport(native=native, **options)

    return make


@pytest.fixture
def node() -> Callable[..., Node]:
    """Describe a node at an address: ours unless told otherwise."""

    def make(address: str, metadata: dict[str, str] = OURS) -> Node:
        return Node(id="node-1", address=address, metadata=metadata)

    return make


@pytest.fixture
def go_metadata() -> dict[str, str]:
    return GO


@pytest.fixture
def head() -> Head:
    return Head({b"Content-Type": b"application/json", b"Micro-Endpoint": b"Greeter.Hello"})


@pytest.fixture
def answer_head() -> Head:
    return Head({b"Content-Type": b"application/json"})


@pytest.fixture
def echo() -> Callable[[Request], None]:
    def receive(request: Request) -> None:
        request.respond(ANSWER_HEAD, {}, request.body)

    return receive


class Raw:
    """One end of a raw connection."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self.unread = b""

    async def send(self, *texts: bytes) -> None:
        await self.stream.send(b"".join(texts))

    async def send_bytewise(self, text: bytes) -> None:
        for at in range(len(text)):
            await self.stream.send(text[at : at + 1])

    async def until(self, end: bytes) -> bytes:
        """Return what comes up to and including ``end``."""
        while end not in self.unread:
            self.unread += await self.stream.receive()
        taken, found, self.unread = self.unread.partition(end)
        return taken + found

    async def message(self) -> tuple[bytes, bytes]:
        """Return head and body of the next message."""
        head = await self.until(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.startswith(b"Content-Length: "):
                length = int(line.removeprefix(b"Content-Length: "))
        while len(self.unread) < length:
            self.unread += await self.stream.receive()
        body, self.unread = self.unread[:length], self.unread[length:]
        return head, body

    async def rest(self) -> bytes:
        """Return everything up to the end of the connection."""
        try:
            while True:
                self.unread += await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return self.unread


@pytest.fixture
def dial() -> Callable[[str], AbstractAsyncContextManager[Raw]]:
    """Connect to an address and speak bytes."""

    @asynccontextmanager
    async def connected(address: str) -> AsyncIterator[Raw]:
        host, _, port = address.rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            yield Raw(stream)

    return connected


@pytest.fixture
def peer() -> Callable[..., AbstractAsyncContextManager[str]]:
    """Serve raw connections with a function; gives the address."""

    @asynccontextmanager
    async def serving(handle: Callable[[Raw], Any]) -> AsyncIterator[str]:
        async def accepted(stream: SocketStream) -> None:
            async with stream:
                try:
                    await handle(Raw(stream))
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    pass

        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, accepted)
                yield f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
                tasks.cancel_scope.cancel()

    return serving
