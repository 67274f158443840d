"""The greeter on this framework: typed handlers, the public client, one middleware, every part as it is by default."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from micro_core import Client, Context, PluginHost, Service, hookimpl, idempotent

from .messages import Greeting, Hello, HelloReply, HelloRequest, hello
from .processes import SERVICE

ENDPOINTS = {"json": ("Greeter.Hello", Greeting), "proto": ("Greeter.HelloProto", HelloReply)}


class Passing:
    """An extension with one middleware, which does what any would do at least."""

    @hookimpl
    def handler_middleware(self) -> Any:
        async def passing(context: Context, request: Any, call_next: Any) -> Any:
            return await call_next(context, request)

        return passing


plugins = PluginHost()
plugins.register("extension", "passing", Passing())
service = Service(SERVICE, plugins=plugins, extensions="passing")


@service.handler
class Greeter:
    @idempotent
    async def hello(self, request: Hello) -> Greeting:
        return Greeting(request.name)

    @idempotent
    async def hello_proto(self, request: HelloRequest) -> HelloReply:
        return HelloReply(message=request.name)

    async def chat(self, requests: AsyncIterator[Hello]) -> AsyncIterator[Greeting]:
        async for request in requests:
            yield Greeting(request.name)


@service.after_start
def say_where() -> None:
    print(f"ready {service.address}", flush=True)


def serve() -> None:
    service.run(argv=[])


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call; ``address`` is for peers without discovery."""
    request, (endpoint, reply) = hello(codec, size), ENDPOINTS[codec]
    async with Client() as client:
        yield lambda: client.call(SERVICE, endpoint, request, reply)


@asynccontextmanager
async def streamer(address: str) -> AsyncIterator[tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]]:
    """Yield functions that send to a stream, and receive from it."""
    request = hello("json", 64)
    async with Client() as client, client.stream(SERVICE, "Greeter.Chat", Greeting) as stream:
        yield lambda: stream.send(request), stream.receive
