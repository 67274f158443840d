"""The demo's greeter. Several processes of it share the work; DEMO_NAME tells them apart."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio

from micro_core import Service, endpoint, idempotent

GREETER = os.environ.get("DEMO_GREETER", "greeter")
"""The service's name: one for each run, so that two demos on one machine do not meet."""

MY_NAME = os.environ.get("DEMO_NAME", "greeter")
THINKING_SECONDS = 1.0
MANY_CALLS = 32


@dataclass
class Name:
    name: str


@dataclass
class Greeting:
    text: str
    by: str


service = Service(GREETER)


@service.handler
class Greeter:
    def __init__(self) -> None:
        self._composing = 0

    @idempotent
    async def hello(self, request: Name) -> Greeting:
        return Greeting(f"Hello {request.name}", MY_NAME)

    async def repeat(self, request: Name) -> AsyncIterator[Greeting]:
        for time in ("once", "twice", "three times"):
            yield Greeting(f"Hello {request.name}, {time}", MY_NAME)

    async def greet_all(self, requests: AsyncIterator[Name]) -> Greeting:
        names = [request.name async for request in requests]
        return Greeting("Hello " + " and ".join(names), MY_NAME)

    async def chat(self, requests: AsyncIterator[Name]) -> AsyncIterator[Greeting]:
        async for request in requests:
            yield Greeting(f"Hello {request.name}, how are you?", MY_NAME)

    @idempotent
    async def compose(self, request: Name) -> Greeting:
        """Think about a greeting; thinking twice does no harm."""
        self._composing += 1
        if self._composing == MANY_CALLS:
            print(f"is working on {MANY_CALLS} idempotent calls at once", flush=True)
        await anyio.sleep(THINKING_SECONDS)
        self._composing -= 1
        return Greeting(f"Dear {request.name}", MY_NAME)

    @endpoint(metadata={"why": "twice would be one bouquet too many"})
    async def send_flowers(self, request: Name) -> Greeting:
        await anyio.sleep(THINKING_SECONDS)
        return Greeting(f"flowers for {request.name}", MY_NAME)


@service.after_start
def say_so() -> None:
    print(f"is ready at {service.address}", flush=True)


if __name__ == "__main__":
    service.run()
