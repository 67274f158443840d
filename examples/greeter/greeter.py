"""A service with one endpoint of every kind, and a subscriber. Run it with `python greeter.py`; Ctrl-C stops it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from micro_core import Service, idempotent


@dataclass
class HelloRequest:
    name: str


@dataclass
class HelloResponse:
    greeting: str


service = Service("greeter")


@service.handler
class Greeter:
    @idempotent  # may be executed twice: safe to retry
    async def hello(self, request: HelloRequest) -> HelloResponse:  # unary
        return HelloResponse(greeting=f"Hello {request.name}")

    async def repeat(self, request: HelloRequest) -> AsyncIterator[HelloResponse]:  # server streaming
        for _ in range(3):
            yield HelloResponse(greeting=f"Hello {request.name}")

    async def greet_all(self, requests: AsyncIterator[HelloRequest]) -> HelloResponse:  # client streaming
        names = [request.name async for request in requests]
        return HelloResponse(greeting="Hello " + ", ".join(names))

    async def chat(self, requests: AsyncIterator[HelloRequest]) -> AsyncIterator[HelloResponse]:  # bidirectional
        async for request in requests:
            yield HelloResponse(greeting=f"Hello {request.name}")


@service.subscriber("greetings", queue="workers")
async def on_greeting(message: HelloRequest) -> None:
    print(message.name, flush=True)


if __name__ == "__main__":
    service.run()
