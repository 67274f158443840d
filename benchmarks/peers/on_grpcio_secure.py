"""The greeter on grpcio's asyncio API under TLS, with the same JSON bodies by way of generic handlers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from .messages import Greeting, Hello, decode_greeting, decode_hello, encode
from .secure import MESSAGES, folder, is_stream


async def hello(request: Hello, context: object) -> Greeting:
    return Greeting(f"Hello {request.name}")


async def repeat(request: Hello, context: object) -> AsyncIterator[Greeting]:
    for _ in range(MESSAGES):
        yield Greeting(f"Hello {request.name}")


def serve() -> None:
    asyncio.run(_serve())


async def _serve() -> None:
    server = grpc.aio.server()
    coded = {"request_deserializer": decode_hello, "response_serializer": encode}
    methods = {
        "Hello": grpc.unary_unary_rpc_method_handler(hello, **coded),
        "Repeat": grpc.unary_stream_rpc_method_handler(repeat, **coded),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", methods),))
    pair = tuple((folder() / name).read_bytes() for name in ("greeter-key.pem", "greeter.pem"))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials((pair,)))
    await server.start()
    print(f"ready 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


@asynccontextmanager
async def caller(address: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call, or one stream call."""
    request = Hello("John")
    trusted = grpc.ssl_channel_credentials((folder() / "ca.pem").read_bytes())
    coded = {"request_serializer": encode, "response_deserializer": decode_greeting}
    async with grpc.aio.secure_channel(address, trusted) as channel:
        one, many = channel.unary_unary("/Greeter/Hello", **coded), channel.unary_stream("/Greeter/Repeat", **coded)

        async def stream() -> None:
            count = 0
            async for _ in many(request):
                count += 1
            assert count == MESSAGES

        def unary() -> Awaitable[object]:
            call: Awaitable[object] = one(request, timeout=5)
            return call

        yield stream if is_stream() else unary
