"""The greeter on this framework: a typed handler, the public client, every part as it is by default."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from micro_core import Client, Service, idempotent

from .messages import Greeting, Hello

service = Service("greeter")


@service.handler
class Greeter:
    @idempotent
    async def hello(self, request: Hello) -> Greeting:
        return Greeting(f"Hello {request.name}")


@service.after_start
def say_where() -> None:
    print(f"ready {service.address}", flush=True)


def serve() -> None:
    service.run(argv=[])


@asynccontextmanager
async def caller(address: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call; ``address`` is for peers without discovery."""
    request = Hello("John")
    async with Client() as client:
        yield lambda: client.call("greeter", "Greeter.Hello", request, Greeting)
