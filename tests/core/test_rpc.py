"""Calls and streams from the rpc client to the rpc server, over the memory parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from micro_core import BadRequest, Call, Context, InternalError, Limits, Node, NoNode, NotFound, Record
from micro_core._app.contract import handlers_of
from micro_core._app.handlers import endpoint_of, idempotent
from micro_core.builtin.json.codec import JsonCodec
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.memory.transport import MemoryTransport
from micro_core.builtin.rpc.client import RpcClient
from micro_core.builtin.rpc.server import RpcServer
from micro_core.builtin.selectors.roundrobin import RoundRobinSelector

pytestmark = pytest.mark.anyio


@dataclass
class HelloRequest:
    name: str


@dataclass
class HelloResponse:
    greeting: str


class Greeter:
    def __init__(self) -> None:
        self.cancelled = anyio.Event()
        self.executed = 0

    @idempotent
    async def hello(self, request: HelloRequest) -> HelloResponse:
        return HelloResponse(f"Hello {request.name}")

    async def repeat(self, request: HelloRequest) -> AsyncIterator[HelloResponse]:
        for _ in range(3):
            yield HelloResponse(f"Hello {request.name}")

    async def greet_all(self, requests: AsyncIterator[HelloRequest]) -> HelloResponse:
        return HelloResponse("Hello " + ", ".join([request.name async for request in requests]))

    async def chat(self, requests: AsyncIterator[HelloRequest]) -> AsyncIterator[HelloResponse]:
        async for request in requests:
            yield HelloResponse(f"Hello {request.name}")

    async def sleep(self, request: HelloRequest) -> HelloResponse:
        try:
            await anyio.sleep(30)
        except BaseException:
            self.cancelled.set()
            raise
        return HelloResponse("slept")

    async def fail(self, request: HelloRequest) -> HelloResponse:
        if request.name == "exit":
            raise SystemExit(3)
        if request.name == "generator":
            raise GeneratorExit
        if request.name == "missing":
            raise NotFound("no such person", id="people")
        raise RuntimeError("secret")

    async def deadline(self, request: HelloRequest, context: Context) -> float:
        return context.deadline - anyio.current_time()


async def on_event(topic: str, message: Any, context: Context) -> None:
    return None


@asynccontextmanager
async def greeter(nodes: int = 1) -> AsyncIterator[tuple[RpcClient, list[Greeter]]]:
    network = MemoryNetwork()
    async with AsyncExitStack() as stack:
        with network.current():
            registry = await stack.enter_async_context(MemoryRegistry())
            transport = await stack.enter_async_context(MemoryTransport())
        instances = []
        for number in range(nodes):
            instance = Greeter()
            handlers = {handler.name: handler for handler in handlers_of(instance)}
            server = RpcServer(transport=transport, codecs=[JsonCodec()])
            running = await stack.enter_async_context(
                server.serve("greeter", "127.0.0.1:0", handlers, on_event, Limits())
            )
            node = Node(id=f"greeter-{number}", address=running.address, metadata={"protocol": "mucp", "micro": "1"})
            endpoints = tuple(endpoint_of(handler) for handler in handlers.values())
            await registry.register(Record(name="greeter", version="latest", nodes=(node,), endpoints=endpoints))
            instances.append(instance)
        client = RpcClient(registry=registry, selector=RoundRobinSelector(), transport=transport, codecs=[JsonCodec()])
        await stack.enter_async_context(client)
        yield client, instances


def call(method: str, name: str = "John", response_type: Any = HelloResponse) -> Call:
    return Call("greeter", f"Greeter.{method}", HelloRequest(name), response_type)


async def test_a_call_returns_the_typed_reply() -> None:
    async with greeter() as (client, _):
        assert await client.call(call("Hello")) == HelloResponse("Hello John")


async def test_many_calls_at_once_get_their_own_replies() -> None:
    async with greeter(3) as (client, _):
        replies: dict[int, HelloResponse] = {}

        async def one(number: int) -> None:
            replies[number] = await client.call(call("Hello", str(number)))

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(one, number)
        assert replies == {number: HelloResponse(f"Hello {number}") for number in range(200)}


async def test_all_kinds_of_streams() -> None:
    async with greeter() as (client, _):
        stream = await client.open(Call("greeter", "Greeter.Repeat", None, HelloResponse, streaming=True))
        await stream.send(HelloRequest("A"))
        assert [reply.greeting async for reply in stream] == ["Hello A"] * 3
        await stream.aclose()
        stream = await client.open(Call("greeter", "Greeter.GreetAll", None, HelloResponse, streaming=True))
        await stream.send(HelloRequest("A"))
        await stream.send(HelloRequest("B"))
        await stream.close_send()
        assert [reply.greeting async for reply in stream] == ["Hello A, B"]
        await stream.aclose()
        stream = await client.open(Call("greeter", "Greeter.Chat", None, HelloResponse, streaming=True))
        for name in "ABC":
            await stream.send(HelloRequest(name))
            assert (await stream.receive()).greeting == f"Hello {name}"
        await stream.close_send()
        with pytest.raises(StopAsyncIteration):
            await stream.receive()
        await stream.aclose()


async def test_the_ambient_deadline_reaches_the_handler_and_cancels_it() -> None:
    async with greeter() as (client, (instance,)):
        with anyio.fail_after(2):
            assert 1.5 < await client.call(call("Deadline", response_type=float)) <= 2
        with pytest.raises(TimeoutError), anyio.fail_after(0.1):
            await client.call(call("Sleep"))
        with anyio.fail_after(2):
            await instance.cancelled.wait()


async def test_a_caller_that_goes_away_cancels_the_handler() -> None:
    async with greeter() as (client, (instance,)):
        with anyio.move_on_after(0.05):
            await client.call(call("Sleep"))
        with anyio.fail_after(2):
            await instance.cancelled.wait()


@pytest.mark.parametrize(
    ("name", "error"),
    [("exit", InternalError), ("generator", InternalError), ("missing", NotFound), ("other", InternalError)],
)
async def test_whatever_a_handler_raises_is_one_failed_call(name: str, error: type[Exception]) -> None:
    async with greeter() as (client, _):
        with pytest.raises(error) as raised:
            await client.call(call("Fail", name))
        assert "secret" not in str(raised.value)
        assert await client.call(call("Hello")) == HelloResponse("Hello John")


async def test_an_unknown_service_is_named_with_those_that_are_known() -> None:
    async with greeter() as (client, _):
        with pytest.raises(
            NoNode, match=r"no node of 'nobody' in registry memory after 1\.\d s; known services: greeter"
        ):
            await client.call(Call("nobody", "X.Y", None, Any))


async def test_an_unknown_endpoint_is_not_executed() -> None:
    async with greeter() as (client, _):
        with pytest.raises(NotFound, match=r"greeter has no endpoint 'Greeter.Nothing'") as raised:
            await client.call(call("Nothing"))
        assert raised.value.executed == "no"


async def test_a_body_that_does_not_fit_names_the_field() -> None:
    async with greeter() as (client, _):
        with pytest.raises(BadRequest, match="name") as raised:
            await client.call(Call("greeter", "Greeter.Hello", {"name": 3}, Any))
        assert raised.value.executed == "no"
