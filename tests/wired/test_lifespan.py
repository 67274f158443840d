"""What a lifespan yields reaches handlers and subscribers through the parts that speak over sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from micro_core import Client, Context, Service

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def lifespan(service: Service) -> AsyncIterator[dict[str, str]]:
    yield {"of": service.name}


async def test_state_is_there_in_calls_and_messages_over_sockets(on_loopback: None) -> None:
    service, seen = Service("greeter", lifespan=lifespan, linger=0), []

    @service.handler
    async def hello(name: str, context: Context) -> str:
        return f"Hello {name} of {context.state['of']}"

    @service.subscriber("greetings")
    async def on_greeting(name: str, context: Context) -> None:
        seen.append((name, context.state))

    async with service, Client() as client:
        assert await client.call("greeter", "Greeter.Hello", "Ada", str) == "Hello Ada of greeter"
        await client.publish("greetings", "Ada", confirm=True)
    assert seen == [("Ada", {"of": "greeter"})]
