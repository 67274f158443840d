"""The world in memory: who meets whom."""

import anyio
import pytest

from micro_core import NoNode
from micro_core.testing import world

pytestmark = pytest.mark.anyio


class Greeter:
    async def hello(self, name: str) -> str:
        return f"Hello {name}"


async def test_a_client_finds_and_calls_a_service_of_its_world() -> None:
    async with world() as here:
        service = here.service("greeter", linger=0)
        service.handler(Greeter)
        async with service, here.client() as client:
            assert await client.call("greeter", "Greeter.Hello", "John", str) == "Hello John"


async def test_services_of_a_world_publish_to_each_other() -> None:
    got, arrived = [], anyio.Event()
    async with world() as here:
        service = here.service("listener", linger=0)

        @service.subscriber("greetings")
        async def on_greeting(message: str) -> None:
            got.append(message)
            arrived.set()

        async with service, here.client() as client:
            await client.publish("greetings", "John")
            await arrived.wait()
    assert got == ["John"]


async def test_two_worlds_do_not_meet() -> None:
    async with world() as here, world() as there:
        service = here.service("greeter", linger=0)
        service.handler(Greeter)
        async with service, there.client() as client:
            with pytest.raises(NoNode):
                await client.call("greeter", "Greeter.Hello", "John", str)


async def test_a_world_is_left_empty() -> None:
    async with world() as here:
        async with here.service("greeter", linger=0), here.client():
            pass
        assert (here.network.nodes, here.network.listeners, here.network.groups) == ({}, {}, [])
