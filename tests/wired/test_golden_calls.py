"""Recorded Go peers played back: our service answers what a Go client asked, our client reads what a Go server said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from micro_core import Client, Headers, NotFound, RemoteError, Service
from micro_transport_http._parser import RequestParser, ResponseParser

pytestmark = pytest.mark.anyio
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


@dataclass
class Item:
    text: str = ""
    body: bytes = b""
    number: int = 0


class Interop:
    async def echo(self, request: Item) -> Item:
        return request

    async def fail(self, request: Item) -> Item:
        raise RemoteError(request.text, code=request.number, id="interop.fail")

    async def count(self, request: Item) -> AsyncIterator[Item]:
        for number in range(request.number):
            yield Item(f"item {number}", number=number)

    async def chat(self, requests: AsyncIterator[Item]) -> AsyncIterator[Item]:
        async for item in requests:
            yield Item(item.text, item.body, item.number + 1)


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def calls(request: pytest.FixtureRequest) -> Any:
    return json.loads(request.param.read_text(encoding="utf-8"))["calls"]


@pytest.mark.parametrize(
    "call",
    [
        "empty_unary-json",
        "error_code_and_detail-json",
        "error_code_and_detail-json-rpc",
        "server_stream-json",
        "ping_pong-json",
    ],
)
async def test_our_service_answers_a_go_client_as_go_does(calls: Any, call: str) -> None:
    recorded = calls[call]
    wanted = read(recorded["response"].encode("latin-1"))
    service = Service("golden", registry="memory", broker="memory", linger=0)
    service.handler(Interop)
    async with service:
        got = await played(service.address, recorded["request"].encode("latin-1"), len(wanted))
    # Ours goes on to end a stream that the client has ended, which Go's client is too far away to hear.
    assert [told(*message) for message in got[: len(wanted)]] == [told(*message) for message in wanted]


def read(data: bytes) -> list[tuple[Headers, bytes]]:
    found: list[tuple[Headers, bytes]] = []
    ResponseParser(lambda headers, body: found.append((headers, body)), headers=1 << 16, body=1 << 20).feed(data)
    return found


def told(headers: Headers, body: bytes) -> object:
    """Return what a Go client takes from a response: the error, or else the value."""
    error = headers.get(b"Micro-Error", b"")
    if error:
        return json.loads(error) if error.startswith(b"{") else error
    return {key: value for key, value in json.loads(body).items() if value}


async def played(address: str, requests: bytes, answers: int) -> list[tuple[Headers, bytes]]:
    """Send what a Go client sent, and return so many answers."""
    host, _, port = address.rpartition(":")
    found: list[tuple[Headers, bytes]] = []
    parser = ResponseParser(lambda headers, body: found.append((headers, body)), headers=1 << 16, body=1 << 20)
    with anyio.fail_after(10):
        async with await anyio.connect_tcp(host, int(port)) as connection:
            await connection.send(requests)
            while len(found) < answers:
                parser.feed(await connection.receive())
    return found


@asynccontextmanager
async def go_server(responses: bytes, requests: int, *, closes: bool = False) -> AsyncIterator[str]:
    """Stand in for a Go server that says what it said once, as soon as so many requests are there."""

    async def serve(connection: anyio.abc.SocketStream) -> None:
        seen: list[bytes] = []
        parser = RequestParser(lambda headers, body: seen.append(body), headers=1 << 16, body=1 << 20)
        async with connection:
            while len(seen) < requests:
                parser.feed(await connection.receive())
            await connection.send(responses)
            if closes:
                return
            async for _ in connection:
                pass

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def client_of(responses: str, requests: int, *, closes: bool = False) -> AsyncIterator[Client]:
    async with (
        go_server(responses.encode("latin-1"), requests, closes=closes) as address,
        Client(registry=f"static://?golden={address}", transport="http://?multiplex=off") as client,
    ):
        yield client


async def test_our_client_reads_the_answers_of_a_go_server(calls: Any) -> None:
    async with client_of(calls["empty_unary-json"]["response"], 1) as client:
        assert await client.call("golden", "Interop.Echo", Item(), Item) == Item()
    async with client_of(calls["error_code_and_detail-json"]["response"], 1) as client:
        with pytest.raises(NotFound, match=r"^no such user$") as raised:
            await client.call("golden", "Interop.Fail", Item("no such user", number=404), Item)
    assert (raised.value.id, raised.value.code) == ("interop.fail", 404)


@pytest.mark.parametrize("closes", [False, True], ids=["stays", "closes-as-from-v5.1-on"])
async def test_our_client_reads_the_stream_of_a_go_server_to_its_end(calls: Any, closes: bool) -> None:
    async with client_of(calls["server_stream-json"]["response"], 2, closes=closes) as client:
        async with client.stream("golden", "Interop.Count", Item) as stream:
            await stream.send(Item("50", number=5))
            assert [item.number async for item in stream] == [0, 1, 2, 3, 4]
            await stream.close_send()
