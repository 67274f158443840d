"""How many connections there are to a node and how long they are kept, as the settings of a client say."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from micro_core import Client, ConfigError, ConnectFailed, Executed, Head, Limits, Node, Record, Request, Timeout, Tls
from micro_core.testing import make_part
from micro_transport_http import HttpTransport

pytestmark = pytest.mark.anyio

JSON = Head({b"Content-Type": b"application/json"})
KINDS = pytest.mark.parametrize("kind", ["single", "http2", "tls"])
TRANSPORTS = {"single": "http://?protocols=http/1.1", "http2": "http", "tls": "http"}
CALLS = 10


class HeldNode:
    """A node that takes two calls at once on a connection, and answers none before it is told to."""

    def __init__(self) -> None:
        self.most = 0
        self.held: list[Request] = []
        self.answers = False
        self.listener: Any = None

    def __call__(self, request: Request) -> None:
        self.most = max(self.most, self.connections)
        if self.answers:
            request.respond(JSON, {}, b"{}")
        else:
            self.held.append(request)

    def answer(self) -> None:
        self.answers = True
        for request in self.held:
            request.respond(JSON, {}, b"{}")

    @property
    def connections(self) -> int:
        return int(repr(self.listener).rsplit(", ", 1)[1].split(" ")[0])


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - a listener is looked at from outside
            await anyio.sleep(0.01)


@pytest.fixture
def tls(authority: Any) -> Tls:
    cert, key = authority.issue("greeter")
    return Tls(cert=cert, key=key, ca=authority.file)


@pytest.fixture
def serving(tls: Tls) -> Any:
    """Serve a node of two calls a connection, and open a client of it."""

    @asynccontextmanager
    async def opened(kind: str, *settings: str, transport: str = "") -> AsyncIterator[tuple[HeldNode, Client]]:
        node, secure = HeldNode(), tls if kind == "tls" else Tls()
        async with (
            HttpTransport(tls=secure) as listening,
            listening.listen("127.0.0.1:0", node, Limits(calls=2)) as node.listener,
            Client(
                registry=f"static://?greeter={node.listener.address}",
                transport=transport or TRANSPORTS[kind],
                tls=secure,
                argv=settings,
            ) as client,
        ):
            yield node, client

    return opened


async def call_at_once(client: Client, node: HeldNode, arriving: int) -> None:
    """Make calls until as many as can arrive have arrived, and have them answered."""
    async with anyio.create_task_group() as tasks:
        for _ in range(CALLS):
            tasks.start_soon(client.call, "greeter", "Greeter.Hello", {})
        await until(lambda: len(node.held) == arriving)
        await anyio.wait_all_tasks_blocked()
        node.answer()


@KINDS
async def test_connections_are_as_many_as_the_setting_says(serving: Any, kind: str) -> None:
    async with serving(kind, "--client_pool_size=2", "--client_pool_ttl=1h") as (node, client):
        await call_at_once(client, node, arriving=CALLS if kind == "single" else 4)
        await until(lambda: node.connections <= 2)
        assert node.most == (CALLS if kind == "single" else 2)


@KINDS
async def test_idle_connections_are_closed_after_the_time_that_the_setting_says(serving: Any, kind: str) -> None:
    async with serving(kind, "--client_pool_ttl=200ms") as (node, client):
        await call_at_once(client, node, arriving=CALLS)
        await until(lambda: node.connections <= 0)
        await client.call("greeter", "Greeter.Hello", {})  # over a new one


@KINDS
async def test_a_connection_in_use_is_not_closed_for_its_age(serving: Any, kind: str) -> None:
    async with serving(kind, "--client_pool_ttl=100ms") as (node, client), anyio.create_task_group() as tasks:
        tasks.start_soon(client.call, "greeter", "Greeter.Hello", {})
        await until(lambda: len(node.held) == 1)
        await anyio.sleep(0.3)
        assert node.connections == 1
        node.answer()


@KINDS
@pytest.mark.parametrize("setting", ["--client_pool_size=0", "--client_pool_ttl=0s"])
async def test_nothing_is_kept_where_the_setting_is_zero(serving: Any, kind: str, setting: str) -> None:
    async with serving(kind, setting) as (node, client):
        await call_at_once(client, node, arriving=CALLS)
        await until(lambda: node.connections <= 0)
        assert node.most == CALLS


async def test_an_option_of_the_configuration_string_goes_over_the_setting(serving: Any) -> None:
    options = "http://?protocols=http/1.1&pool_size=1"
    async with serving("single", "--client_pool_size=5", "--client_pool_ttl=1h", transport=options) as (node, client):
        await call_at_once(client, node, arriving=CALLS)
        await until(lambda: node.connections <= 1)
        assert node.connections == 1


async def test_less_than_nothing_cannot_be_kept() -> None:
    with pytest.raises(ConfigError, match="pool_size=-1 is not valid"):
        HttpTransport(pool_size=-1)
    with pytest.raises(ConfigError, match="pool_ttl=-1 is not valid"):
        HttpTransport(pool_ttl=-1)


@pytest.mark.parametrize("kind", ["http2", "tls"])
async def test_calls_that_wait_for_room_take_their_turn(serving: Any, kind: str) -> None:
    done: list[int] = []

    async def call_on_and_on(client: Client, number: int) -> None:
        while len(done) < 100:
            await client.call("greeter", "Greeter.Hello", {})
            done.append(number)

    async with serving(kind, "--client_pool_size=1") as (node, client):
        node.answer()
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(call_on_and_on, client, number)
    assert min(done.count(number) for number in range(5)) >= 15


@pytest.mark.parametrize("kind", ["http2", "tls"])
async def test_a_call_that_leaves_the_queue_leaves_its_place_to_the_next(serving: Any, kind: str) -> None:
    async with serving(kind, "--client_pool_size=1") as (node, client), anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(client.call, "greeter", "Greeter.Hello", {})
        await until(lambda: len(node.held) == 2)
        with pytest.raises(Timeout) as caught:
            await client.call("greeter", "Greeter.Hello", {}, timeout=0.2)
        assert caught.value.executed is Executed.NO
        with anyio.CancelScope() as given_up:
            tasks.start_soon(client.call, "greeter", "Greeter.Hello", {})
            given_up.cancel()
            await client.call("greeter", "Greeter.Hello", {})
        node.answer()
    assert node.most == 1


async def test_a_node_that_leaves_while_a_call_waits_for_a_connection_was_not_called(
    open_transport: Any, node: Any, head: Head, peer: Any
) -> None:
    dialled = anyio.Event()

    async def silent(raw: Any) -> None:
        dialled.set()
        await raw.rest()

    async with open_transport() as transport, peer(silent) as address:
        channel = transport.connect(node(address))
        errors: list[ConnectFailed] = []

        async def call(number: int) -> None:
            with pytest.raises(ConnectFailed, match="left while a call waited") as caught:
                await channel.call(head, number, {}, b"", math.inf)
            errors.append(caught.value)

        with anyio.fail_after(2):
            async with anyio.create_task_group() as tasks:
                for number in range(3):
                    tasks.start_soon(call, number)
                await dialled.wait()
                await channel.aclose()
        await transport.aclose()

    assert [error.executed for error in errors] == [Executed.NO] * 3


async def test_a_call_that_waited_for_a_node_that_leaves_goes_to_another(peer: Any) -> None:
    dialled = anyio.Event()
    answered: list[str] = []

    async def silent(raw: Any) -> None:
        dialled.set()
        await raw.rest()

    def answer(request: Request) -> None:
        answered.append(request.local)
        request.respond(JSON, {}, b"{}")

    def record(id: str, address: str) -> Record:
        return Record(name="greeter", version="1", nodes=(Node(id=id, address=address, metadata={"micro": "1"}),))

    async with (
        peer(silent) as address,
        HttpTransport() as listening,
        listening.listen("127.0.0.1:0", answer, Limits()) as listener,
        make_part("registry", "memory") as registry,
        Client(registry=registry) as client,
    ):
        await registry.register(record("silent", address))

        with anyio.fail_after(4):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call, "greeter", "Greeter.Hello", {})
                await dialled.wait()
                await registry.register(record("other", listener.address))
                await registry.deregister(record("silent", address))

        assert answered == [listener.address]
