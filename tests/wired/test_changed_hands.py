"""An address that changes hands: the service that has it now runs no call that is meant for the one before."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import httpx
import pytest

from micro_core import (
    Attempt,
    Client,
    MicroError,
    Node,
    NoNode,
    NotFound,
    PluginHost,
    Record,
    Service,
    hookimpl,
    idempotent,
)
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.middleware import AttemptNext
from micro_transport_http import HttpTransport

pytestmark = pytest.mark.anyio

ORDERS = """
from micro_core import Service, idempotent

orders = Service("orders", address="127.0.0.1:0", registry="memory", broker="memory")

@orders.handler
class Orders:
    async def place(self, request: str) -> str:
        return "orders"

    @idempotent
    async def show(self, request: str) -> str:
        return "orders"

@orders.after_start
async def say() -> None:
    print("at", orders.address, flush=True)

orders.run([])
"""


class Town:
    """Services with the same endpoints, and who ran what."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.ran: list[str] = []

    def parts(self) -> dict[str, Any]:
        registry = MemoryRegistry(network=self.network)
        return {"registry": registry, "transport": HttpTransport(), "broker": "memory"}

    @asynccontextmanager
    async def serving(self, name: str, address: str, server: str = "rpc") -> AsyncIterator[Service]:
        service = Service(name, address=address, server=server, linger=0, **self.parts())

        @service.handler
        class Orders:
            async def place(_, request: str) -> str:
                self.ran.append(name)
                return name

            @idempotent
            async def show(_, request: str) -> str:
                self.ran.append(name)
                return name

            async def follow(_, request: str) -> AsyncIterator[str]:
                self.ran.append(name)
                yield name

        @service.subscriber("placed")
        async def placed(message: str) -> None:
            self.ran.append(f"{name} heard")

        async with service:
            yield service

    @asynccontextmanager
    async def client(self, *addresses: str, **settings: Any) -> AsyncIterator[tuple[Client, MemoryRegistry]]:
        """Give a client whose registry lists ``addresses`` for orders, and that registry."""
        async with MemoryRegistry(network=self.network) as registry:
            await registry.register(record(*addresses), ttl=600)
            async with Client(**self.parts(), **settings) as client:
                yield client, registry


class Attempts:
    """Where attempts of calls went; an extension."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    @hookimpl
    def call_middleware(self) -> Any:
        async def note(attempt: Attempt, attempt_next: AttemptNext) -> Any:
            self.addresses.append(attempt.node.address)
            return await attempt_next(attempt)

        return note


def record(*addresses: str) -> Record:
    nodes = tuple(Node(id=f"orders-{i}", address=at, metadata={"micro": "1"}) for i, at in enumerate(addresses))
    return Record(name="orders", version="1", nodes=nodes)


@contextmanager
def orders_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run orders in a process of its own; give its address."""
    with ExitStack() as stack:
        command = [sys.executable, "-c", ORDERS]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        yield process.stdout.readline().split()[1], process


ENDPOINTS = pytest.mark.parametrize("endpoint", ["Orders.Place", "Orders.Show"])


@ENDPOINTS
async def test_calls_of_a_killed_service_never_run_at_the_one_that_took_its_port(endpoint: str) -> None:
    town = Town()
    with orders_process() as (address, process):
        async with town.client(address) as (client, _):
            assert await client.call("orders", endpoint, "x", str) == "orders"
            process.kill()
            process.wait()
            async with town.serving("accounts", address):
                with pytest.raises(MicroError):  # the connection was lost, or accounts refused it
                    await client.call("orders", endpoint, "x", str)
                with pytest.raises(NoNode, match=f"here is accounts|another service answers at {address}") as raised:
                    await client.call("orders", endpoint, "x", str)
                assert raised.value.executed == "no"
                async with town.serving("orders", "127.0.0.1:0"):
                    replies = [await client.call("orders", endpoint, "x", str) for _ in range(20)]
    assert replies == ["orders"] * 20
    assert set(town.ran) == {"orders"}


@ENDPOINTS
async def test_another_node_gets_every_call_and_the_address_that_changed_hands_is_asked_once(endpoint: str) -> None:
    town = Town()
    async with town.serving("accounts", "127.0.0.1:0") as accounts, town.serving("orders", "127.0.0.1:0"):
        address, counting = accounts.address, PluginHost()
        counting.register("extension", "attempts", attempts := Attempts())
        async with town.client(address, plugins=counting, extensions="attempts") as (client, _):
            assert [await client.call("orders", endpoint, "x", str) for _ in range(50)] == ["orders"] * 50
    assert set(town.ran) == {"orders"}
    assert attempts.addresses.count(address) == 1


async def test_a_node_that_is_announced_anew_is_called_again() -> None:
    town = Town()
    async with town.client("127.0.0.1:1") as (client, registry):
        async with town.serving("accounts", "127.0.0.1:0") as accounts:
            address = accounts.address
            await registry.register(record(address), ttl=600)
            with pytest.raises(NoNode):
                await client.call("orders", "Orders.Place", "x", str)
        async with town.serving("orders", address):
            await registry.register(record(address), ttl=600)
            assert await client.call("orders", "Orders.Place", "x", str) == "orders"


async def test_a_stale_line_of_a_static_file_costs_one_refused_attempt_and_not_one_for_each_call() -> None:
    town, counting = Town(), PluginHost()
    counting.register("extension", "attempts", attempts := Attempts())
    async with town.serving("accounts", "127.0.0.1:0") as accounts:
        address = accounts.address
        parts = town.parts() | {"registry": f"static://?orders={address}"}
        async with Client(
            **parts, client="rpc://?lookup_timeout=50ms", plugins=counting, extensions="attempts"
        ) as client:
            with pytest.raises(NoNode, match="here is accounts"):
                await client.call("orders", "Orders.Place", "x", str)
            for _ in range(3):
                with pytest.raises(NoNode, match=f"another service answers at {address}, where it is said"):
                    await client.call("orders", "Orders.Place", "x", str)
    assert attempts.addresses == [address]


async def test_a_call_with_a_single_attempt_is_told_that_no_node_is_there() -> None:
    town = Town()
    async with town.serving("accounts", "127.0.0.1:0") as accounts, town.client(accounts.address) as (client, _):
        with pytest.raises(NoNode, match="here is accounts") as raised:
            await client.call("orders", "Orders.Place", "x", str, retries=0)
        assert (raised.value.executed, raised.value.node, raised.value.attempts) == ("no", accounts.address, 1)


async def test_a_stream_is_refused_and_its_node_dropped() -> None:
    town = Town()
    async with town.serving("accounts", "127.0.0.1:0") as accounts, town.client(accounts.address) as (client, _):
        async with client.stream("orders", "Orders.Follow", str) as stream:
            with pytest.raises(NotFound, match="here is accounts") as raised:
                await stream.receive()
        assert raised.value.executed == "no"
        async with town.serving("orders", "127.0.0.1:0"), client.stream("orders", "Orders.Follow", str) as stream:
            await stream.send("x")
            assert [reply async for reply in stream] == ["orders"]
    assert town.ran == ["orders"]


async def test_a_call_to_an_address_is_told_who_is_there() -> None:
    town = Town()
    async with town.serving("accounts", "127.0.0.1:0") as accounts, town.client() as (client, _):
        with pytest.raises(NotFound, match="here is accounts, not 'orders'") as raised:
            await client.call("orders", "Orders.Place", "x", str, address=accounts.address)
        assert (raised.value.id, raised.value.executed) == ("accounts", "no")
        assert await client.call("accounts", "Orders.Place", "x", str, address=accounts.address) == "accounts"
    assert town.ran == ["accounts"]


async def test_an_endpoint_that_is_not_there_drops_no_node() -> None:
    town = Town()
    async with town.serving("orders", "127.0.0.1:0"), Client(**town.parts()) as client:
        for _ in range(2):
            with pytest.raises(NotFound, match=r"orders has no endpoint 'Orders\.None'"):
                await client.call("orders", "Orders.None", "x", str)
        assert await client.call("orders", "Orders.Place", "x", str) == "orders"


async def test_a_proxy_takes_calls_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    town, server = Town(), "rpc://?any_service=on"
    monkeypatch.setenv("MICRO_PROXY", "gateway")
    async with town.serving("gateway", "127.0.0.1:0", server), Client(**town.parts()) as client:
        assert [await client.call("orders", "Orders.Place", "x", str) for _ in range(2)] == ["gateway"] * 2


async def test_a_refusal_by_a_proxy_that_is_none_is_told_and_drops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    town = Town()
    monkeypatch.setenv("MICRO_PROXY", "accounts")
    async with town.serving("accounts", "127.0.0.1:0"), Client(**town.parts()) as client:
        for _ in range(2):
            with pytest.raises(NotFound, match="here is accounts, not 'orders'"):
                await client.call("orders", "Orders.Place", "x", str)


JSON = {"Content-Type": "application/json"}
PLACE = {**JSON, "Micro-Endpoint": "Orders.Place"}


@pytest.mark.parametrize(
    ("headers", "body", "ran"),
    [
        (PLACE, b'"x"', ["orders"]),
        (PLACE | {"Micro-Service": "orders"}, b'"x"', ["orders"]),
        (PLACE | {"X-Micro-Service": "orders"}, b'"x"', ["orders"]),
        (PLACE | {"Micro-Service": ""}, b'"x"', ["orders"]),
        (PLACE | {"Micro-Service": "orders", "X-Micro-Service": "stale"}, b'"x"', ["orders"]),
        (PLACE | {"Micro-Service": "accounts"}, b'"x"', []),
        (PLACE | {"X-Micro-Service": "accounts"}, b'"x"', []),
        (PLACE | {"Micro-Service": "Orders"}, b'"x"', []),
        (JSON, b'{"method":"Orders.Place","params":["x"],"id":1}', ["orders"]),
        (
            JSON | {"Micro-Service": "accounts", "Micro-Target": "x"},
            b'{"method":"Orders.Place","params":["x"],"id":1}',
            [],
        ),
        # An event is for whoever subscribes: Go Micro's handlers publish with the metadata of their own request.
        (JSON | {"Micro-Topic": "placed", "Micro-Service": "accounts"}, b'"x"', ["orders heard"]),
    ],
)
async def test_a_request_runs_only_where_it_is_meant_to(headers: dict[str, str], body: bytes, ran: list[str]) -> None:
    town = Town()
    async with town.serving("orders", "127.0.0.1:0") as orders, httpx.AsyncClient(trust_env=False) as stranger:
        await stranger.post(f"http://{orders.address}/", headers=PLACE | {"Micro-Service": "orders"}, content=b'"x"')
        town.ran.clear()
        reply = await stranger.post(f"http://{orders.address}/", headers=headers, content=body)
    assert town.ran == ran
    refused = re.search('"id":"orders","code":404,.*"executed":"no"', reply.headers.get("Micro-Error", ""))
    assert (refused is None) is bool(ran)
