"""The greeter on grpcio's asyncio API; JSON by way of generic handlers."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from .messages import Greeting, Hello, HelloReply, HelloRequest, decode_greeting, decode_hello, encode, hello

BACKEND: tuple[str, dict[str, Any]] = ("asyncio", {})
CERTIFICATES = os.environ.get("BENCHMARKED_CERTIFICATES", "")
"""The folder with them, where TLS is spoken."""
OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]
REPLIES = {
    "json": ("/Greeter/Hello", encode, decode_greeting),
    "proto": ("/Greeter/HelloProto", HelloRequest.SerializeToString, HelloReply.FromString),
}


async def greet(request: Hello, context: object) -> Greeting:
    return Greeting(request.name)


async def greet_in_protobuf(request: Any, context: object) -> Any:
    return HelloReply(message=request.name)


async def chat(requests: AsyncIterator[Hello], context: object) -> AsyncIterator[Greeting]:
    async for request in requests:
        yield Greeting(request.name)


def serve() -> None:
    asyncio.run(_serve())


async def _serve() -> None:
    server = grpc.aio.server(options=OPTIONS)
    in_json = {"request_deserializer": decode_hello, "response_serializer": encode}
    handlers = {
        "Hello": grpc.unary_unary_rpc_method_handler(greet, **in_json),
        "Chat": grpc.stream_stream_rpc_method_handler(chat, **in_json),
        "HelloProto": grpc.unary_unary_rpc_method_handler(
            greet_in_protobuf, HelloRequest.FromString, HelloReply.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Greeter", handlers),))
    port = add_port(server)
    await server.start()
    print(f"ready 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def add_port(server: grpc.aio.Server) -> int:
    if not CERTIFICATES:
        return int(server.add_insecure_port("127.0.0.1:0"))
    pair = tuple(Path(CERTIFICATES, name).read_bytes() for name in ("greeter-key.pem", "greeter.pem"))
    return int(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials((pair,))))


def open_channel(address: str) -> grpc.aio.Channel:
    if not CERTIFICATES:
        return grpc.aio.insecure_channel(address, options=OPTIONS)
    trusted = grpc.ssl_channel_credentials(Path(CERTIFICATES, "ca.pem").read_bytes())
    return grpc.aio.secure_channel(address, trusted, options=OPTIONS)


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    request, (path, serializer, deserializer) = hello(codec, size), REPLIES[codec]
    async with open_channel(address) as channel:
        method = channel.unary_unary(path, request_serializer=serializer, response_deserializer=deserializer)
        yield lambda: method(request, timeout=5)


@asynccontextmanager
async def streamer(address: str) -> AsyncIterator[tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]]:
    """Yield functions that send to a stream, and receive from it."""
    async with open_channel(address) as channel:
        method = channel.stream_stream(
            "/Greeter/Chat", request_serializer=encode, response_deserializer=decode_greeting
        )
        exchange = method()
        yield partial(exchange.write, hello("json", 64)), exchange.read
        exchange.cancel()
