"""What type checkers say about calls; read by mypy and pyright, and run by nobody.

A line that is wrong says so for both: an ignored error that is none is an error itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, assert_type

from micro_core import (
    CallOptionsDict,
    Client,
    ClientStream,
    Conflict,
    Context,
    Service,
    SyncClient,
    SyncStream,
    Topic,
    endpoint,
    idempotent,
    with_options,
)


class Declined(Conflict):
    """An application's error."""


class Contract(Protocol):
    @idempotent
    async def hello(self, name: str) -> int: ...

    @endpoint(name="Greeter.Again", errors=[Declined])
    def again(self, name: str) -> AsyncIterator[str]: ...


class Abstract(ABC):
    @abstractmethod
    async def hello(self, name: str) -> int: ...


class Handler(Abstract):
    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    async def hello(self, name: str) -> int:
        return len(self.greeting + name)

    async def both(self, names: AsyncIterator[str], context: Context) -> AsyncIterator[bytes]:
        async for name in names:
            yield name.encode()


async def a_proxy_has_the_types_of_its_contract(client: Client) -> None:
    protocol = client.proxy("greeter", Contract, timeout=1, errors=[Declined])
    assert_type(protocol, Contract)
    assert_type(await protocol.hello("a"), int)
    assert_type([each async for each in protocol.again("a")], list[str])
    abstract = client.proxy("greeter", Abstract)
    assert_type(await abstract.hello("a"), int)
    handler = client.proxy("greeter", Handler, retries=0)
    assert_type(handler, Handler)
    assert_type(await with_options(protocol, timeout=1).hello("a"), int)

    await protocol.hello(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await protocol.goodbye("a")  # type: ignore[attr-defined]  # pyright: ignore
    client.proxy("greeter", Contract, timout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with_options(protocol, timout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with_options(protocol, timeout="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def a_call_has_the_type_that_it_asks_for(client: Client) -> None:
    assert_type(await client.call("a", "A.B", None, str), str)
    options: CallOptionsDict = {"timeout": 1, "metadata": {"Token": "x"}}
    assert_type(await client.call("a", "A.B", None, list[int], **options), list[int])
    untyped: Any = await client.call("a", "A.B", None)
    assert untyped

    await client.call("a", "A.B", None, str, timout=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    await client.call("a", "A.B", None, str, retries="1")  # type: ignore[call-overload]  # pyright: ignore


async def a_stream_has_the_type_of_its_answers(client: Client) -> None:
    async with client.stream("a", "A.B", str, request_type=int, timeout=3) as stream:
        assert_type(stream, ClientStream[str])
        assert_type(await stream.receive(), str)
    client.stream("a", "A.B", str, timout=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


class Plain(Protocol):
    def hello(self, name: str) -> int: ...
    def again(self, name: str) -> Iterator[str]: ...


ORDERS = Topic("orders", int)


async def a_topic_has_the_type_of_its_messages(client: Client, service: Service) -> None:
    await client.publish(ORDERS, 1, confirm=True)
    await client.publish("orders", "anything")

    @service.subscriber(ORDERS, queue="shipping")
    async def ship(order: int, context: Context) -> None: ...

    assert_type(await ship(1, Context({})), None)
    service.subscriber("orders")(ship)
    await client.publish(ORDERS, "1")  # type: ignore[misc]  # pyright: ignore[reportArgumentType, reportCallIssue]

    @service.subscriber(ORDERS)  # type: ignore[arg-type]  # pyright: ignore
    async def wrong(order: str) -> None: ...

    service.subscriber(ORDERS, que="x")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def code_that_is_not_async_is_typed_too(client: SyncClient) -> None:
    assert_type(client.call("a", "A.B", None, str, timeout=1), str)
    with client.stream("a", "A.B", str, ["a"]) as stream:
        assert_type(stream, SyncStream[str])
        assert_type(list(stream), list[str])
    plain: Plain = client.proxy("a", Contract, timeout=1)
    assert_type(plain.hello("a"), int)
    with_options(plain, timeout=1).hello("a")

    client.call("a", "A.B", None, str, timout=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    client.proxy("a", Contract, timout=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SyncClient(registri="memory")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
