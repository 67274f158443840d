"""What is left when everything is left out: frames with the same bodies on bare asyncio protocols, and nothing else.

A frame is the length of its body and the number of its call, four bytes each, and the body. Many calls share one
connection, and what is sent in one turn of the loop leaves in one write. Nobody encodes, decodes, times out or checks.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from struct import Struct
from typing import Any

import uvloop

from .messages import hello, write

HEAD = Struct("!II")


class Frames(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport = transport
        self.outgoing: list[bytes] = []
        self.chunks: list[bytes] = []
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if self.missing > len(data):  # the middle of a large frame: do not copy what came before
            self.chunks.append(data)
            self.missing -= len(data)
            return
        data = b"".join((*self.chunks, data))
        self.chunks.clear()
        at, end = 0, len(data)
        self.missing = 0
        while end - at >= 8:
            length, number = HEAD.unpack_from(data, at)
            if end - at - 8 < length:
                self.missing = length + 8 - (end - at)
                break
            self.received(number, data[at + 8 : at + 8 + length])
            at += 8 + length
        if at < end:
            self.chunks.append(data[at:])

    def received(self, number: int, body: bytes) -> None:
        self.send(number, body)

    def send(self, number: int, body: bytes) -> None:
        if not self.outgoing:
            self.loop.call_soon(self.flush)
        self.outgoing += (HEAD.pack(len(body), number), body)

    def flush(self) -> None:
        self.transport.write(b"".join(self.outgoing))
        self.outgoing.clear()


class Calls(Frames):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.waiting: dict[int, asyncio.Future[bytes]] = {}
        self.number = 0

    def call(self, body: bytes) -> "asyncio.Future[bytes]":
        self.number += 1
        self.waiting[self.number] = answered = self.loop.create_future()
        self.send(self.number, body)
        return answered

    def received(self, number: int, body: bytes) -> None:
        self.waiting.pop(number).set_result(body)


def serve() -> None:
    uvloop.run(_serve())


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Frames, "127.0.0.1", 0)
    print(f"ready 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    request = write(hello(codec, size))
    host, _, port = address.rpartition(":")
    transport, calls = await asyncio.get_running_loop().create_connection(Calls, host, int(port))
    yield lambda: calls.call(request)
    transport.close()
