"""The greeter on grpclib, with a codec that serializes as it is told per method."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from grpclib.client import Channel, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.encoding.base import CodecBase
from grpclib.server import Server

from .messages import Greeting, Hello, HelloReply, HelloRequest, decode_greeting, decode_hello, encode, hello


class BothCodec(CodecBase):  # type: ignore[misc]
    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        return encode(message) if message_type in (Hello, Greeting) else bytes(message.SerializeToString())

    def decode(self, data: bytes, message_type: Any) -> Any:
        if message_type is Hello:
            return decode_hello(data)
        return decode_greeting(data) if message_type is Greeting else message_type.FromString(data)


class Greeter:
    async def hello(self, stream: Any) -> None:
        await stream.send_message(Greeting((await stream.recv_message()).name))

    async def hello_proto(self, stream: Any) -> None:
        await stream.send_message(HelloReply(message=(await stream.recv_message()).name))

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/Greeter/Hello": Handler(self.hello, Cardinality.UNARY_UNARY, Hello, Greeting),
            "/Greeter/HelloProto": Handler(self.hello_proto, Cardinality.UNARY_UNARY, HelloRequest, HelloReply),
        }


METHODS = {"json": ("/Greeter/Hello", Hello, Greeting), "proto": ("/Greeter/HelloProto", HelloRequest, HelloReply)}


def serve() -> None:
    uvloop.run(_serve())


async def _serve() -> None:
    server = Server([Greeter()], codec=BothCodec())
    await server.start("127.0.0.1", 0)
    port = server._server.sockets[0].getsockname()[1]
    print(f"ready 127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    request = hello(codec, size)
    host, _, port = address.rpartition(":")
    async with Channel(host, int(port), codec=BothCodec()) as channel:
        method: Any = UnaryUnaryMethod(channel, *METHODS[codec])
        yield lambda: method(request, timeout=5)
