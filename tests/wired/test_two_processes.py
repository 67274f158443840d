"""The default parts together: a client here, the greeter of the examples in processes of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.to_thread
import pytest

from micro_core import BadRequest, ChangeKind, Client, MicroError, NoNode, SyncClient
from micro_core.testing import make_part

pytestmark = pytest.mark.anyio

GREETER = f"greeter-{os.getpid()}"
"""A name of this run's own: another one on this machine would be heard of too."""
SUBSCRIPTIONS = "micro.http.broker"
"""The service under which the http broker announces them (docs/wire.md §4.2)."""


@dataclass
class HelloRequest:
    name: str


@dataclass
class HelloResponse:
    greeting: str


async def test_unary_call_reaches_another_process(start: Any) -> None:
    start("greeter/greeter.py", "--server_name", GREETER)
    async with Client() as client:
        reply = await client.call(GREETER, "Greeter.Hello", HelloRequest("John"), HelloResponse)
    assert reply == HelloResponse("Hello John")


async def test_every_kind_of_stream_reaches_another_process(start: Any) -> None:
    start("greeter/greeter.py", "--server_name", GREETER)
    async with Client() as client:
        assert await exchange(client, "Greeter.Repeat", "Ada") == ["Hello Ada"] * 3
        assert await exchange(client, "Greeter.GreetAll", "Ada", "Grace") == ["Hello Ada, Grace"]
        assert await exchange(client, "Greeter.Chat", "Ada", "Grace") == ["Hello Ada", "Hello Grace"]


async def exchange(client: Client, endpoint: str, *names: str) -> list[str]:
    async with client.stream(GREETER, endpoint, HelloResponse) as stream:
        for name in names:
            await stream.send(HelloRequest(name))
        if endpoint != "Greeter.Repeat":
            await stream.close_send()
        return [reply.greeting async for reply in stream]


async def test_confirmed_publish_returns_when_another_process_has_handled_it(start: Any) -> None:
    greeter = start("greeter/greeter.py", "--server_name", GREETER)
    async with Client() as client:
        await client.publish("greetings", HelloRequest("Joan"), confirm=True)
    assert "Joan\n" in greeter.stop()


async def test_each_message_goes_to_one_member_of_a_queue_group_and_to_every_other_subscriber(start: Any) -> None:
    workers = [start("pubsub/worker.py"), start("pubsub/worker.py")]
    async with client_that_knows(4, SUBSCRIPTIONS) as client:
        for number in range(6):
            await client.publish("orders", {"number": number, "item": "tea"}, confirm=True)
    said = [line for worker in workers for line in worker.stop().splitlines()]
    assert sorted(line for line in said if line.startswith("packing")) == [f"packing order {n}: tea" for n in range(6)]
    assert sorted(line for line in said if line.startswith("seen")) == [
        f"seen order {n}" for n in range(6) for _ in "ab"
    ]


async def test_a_body_that_does_not_fit_names_the_field_across_processes(start: Any) -> None:
    start("greeter/greeter.py", "--server_name", GREETER)
    async with Client() as client:
        with pytest.raises(BadRequest, match="name"):
            await client.call(GREETER, "Greeter.Hello", {"name": 7})


async def test_a_service_that_stops_is_gone_for_whoever_watches(start: Any) -> None:
    greeter = start("greeter/greeter.py", "--server_name", GREETER)
    async with make_part("registry", "mdns", {"interface": "127.0.0.1"}) as registry, registry.watch(GREETER) as seen:
        with anyio.fail_after(20):
            assert (await anext(seen)).kind is not ChangeKind.DELETE
            greeter.process.send_signal(signal.SIGTERM)
            while (await anext(seen)).kind is not ChangeKind.DELETE:
                pass
    assert await anyio.to_thread.run_sync(greeter.process.wait) == 0


async def test_a_client_knows_that_the_last_node_has_stopped(start: Any) -> None:
    greeter = start("greeter/greeter.py", "--server_name", GREETER)
    async with Client() as client:
        await client.call(GREETER, "Greeter.Hello", HelloRequest("John"))
        await anyio.to_thread.run_sync(greeter.stop)
        with pytest.raises(NoNode, match=GREETER):
            await client.call(GREETER, "Greeter.Hello", HelloRequest("John"))


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
async def test_no_idempotent_call_fails_when_one_of_three_servers_dies_or_freezes(start: Any, fault: Any) -> None:
    greeters = [start("greeter/greeter.py", "--server_name", GREETER) for _ in range(3)]
    failed: list[MicroError] = []
    async with client_that_knows(3, GREETER) as client:
        async with anyio.create_task_group() as calls:
            for number in range(60):
                calls.start_soon(call, client, failed)
                await anyio.lowlevel.checkpoint()
                if number == 20:
                    greeters[0].process.send_signal(fault)
    assert failed == []


async def call(client: Client, failed: list[MicroError]) -> None:
    try:
        await client.call(GREETER, "Greeter.Hello", HelloRequest("John"))
    except MicroError as error:
        failed.append(error)


@asynccontextmanager
async def client_that_knows(nodes: int, service: str) -> AsyncIterator[Client]:
    """Open a client and wait until it has heard of that many nodes."""
    registry = make_part("registry", "mdns", {"interface": "127.0.0.1"})
    async with Client(registry=registry) as client:
        async with registry.watch(service) as changes:
            with anyio.fail_after(20):
                found: set[str] = set()
                while len(found) < nodes:
                    found |= {node.id for node in (await anext(changes)).record.nodes}
        yield client


def test_the_synchronous_client_calls_streams_and_publishes(start: Any) -> None:
    start("greeter/greeter.py", "--server_name", GREETER)
    with SyncClient() as client:
        assert client.call(GREETER, "Greeter.Hello", {"name": "Ada"}) == {"greeting": "Hello Ada"}
        with client.stream(GREETER, "Greeter.Repeat", requests=[{"name": "Ada"}]) as stream:
            assert len(list(stream)) == 3
        client.publish("greetings", {"name": "Ada"}, confirm=True)
