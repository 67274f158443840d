"""The greeter on this framework, in clear text or under TLS, called by its address."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from micro_core import Client, Service, Tls, idempotent

from .messages import Greeting, Hello
from .secure import MESSAGES, folder, is_clear, is_stream, protocol


def serve() -> None:
    own = folder()
    tls = Tls() if is_clear() else Tls(cert=str(own / "greeter.pem"), key=str(own / "greeter-key.pem"))
    service = Service("greeter", registry="memory", transport=transport(), broker="memory", tls=tls)

    @service.handler
    class Greeter:
        @idempotent
        async def hello(self, request: Hello) -> Greeting:
            return Greeting(f"Hello {request.name}")

        async def repeat(self, request: Hello) -> AsyncIterator[Greeting]:
            for _ in range(MESSAGES):
                yield Greeting(f"Hello {request.name}")

    @service.after_start
    def say_where() -> None:
        print(f"ready {service.address}", flush=True)

    service.run(argv=[])


def transport() -> str:
    return "http" if is_clear() else f"http://?alpn={protocol()}"


@asynccontextmanager
async def caller(address: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call, or one stream call."""
    request = Hello("John")
    tls = Tls() if is_clear() else Tls(ca=str(folder() / "ca.pem"))
    async with Client(registry="memory", transport=transport(), broker="memory", tls=tls) as client:

        async def stream() -> None:
            async with client.stream("greeter", "Greeter.Repeat", Greeting, address=address) as replies:
                await replies.send(request)
                count = 0
                async for _ in replies:
                    count += 1
                assert count == MESSAGES

        def unary() -> Awaitable[object]:
            return client.call("greeter", "Greeter.Hello", request, Greeting, address=address)

        yield stream if is_stream() else unary
