"""The greeter on grpcio's asyncio API, with the same JSON bodies by way of generic handlers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from .messages import Greeting, Hello, decode_greeting, decode_hello, encode


async def hello(request: Hello, context: object) -> Greeting:
    return Greeting(f"Hello {request.name}")


def serve() -> None:
    asyncio.run(_serve())


async def _serve() -> None:
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(hello, request_deserializer=decode_hello, response_serializer=encode)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", {"Hello": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"ready 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


@asynccontextmanager
async def caller(address: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    request = Hello("John")
    async with grpc.aio.insecure_channel(address) as channel:
        method = channel.unary_unary("/Greeter/Hello", request_serializer=encode, response_deserializer=decode_greeting)
        yield lambda: method(request, timeout=5)
