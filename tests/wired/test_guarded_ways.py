"""Every way to a handler leads past the guards, and they are asked about what would run."""

from __future__ import annotations

import math
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import httpx
import pytest
from google.protobuf.empty_pb2 import Empty

from micro_core import ConnectionLost, Head, Node, PluginHost, Service, Tls
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.memory.transport import MemoryTransport
from micro_extension_auth import Auth, digest
from micro_transport_http import HttpTransport

pytestmark = pytest.mark.anyio

Send: TypeAlias = Callable[[dict[str, str], bytes], Awaitable[str]]
"""Takes headers and body of a request; returns what the answer says in ``Micro-Error``."""

ROOT = {"Authorization": "Bearer root-token"}
RULES = {"*": ["*"], "Debug.*": ["*"], "Admin.*": ["root"], "orders": ["root"]}

JSON, JSONRPC = {"Content-Type": "application/json"}, {"Content-Type": "application/json-rpc"}
PROTO, PROTORPC = {"Content-Type": "application/protobuf"}, {"Content-Type": "application/proto-rpc"}
IN_JSON = b'{"method":"Admin.Delete","params":[{}],"id":1}'
TWICE_IN_JSON = b'{"method":"Debug.Health","method":"Admin.Delete","params":[{}],"id":1}'
ENVELOPE = b"\x0a\x0bAdmin.Purge\x11" + bytes(8)
IN_PROTO = struct.pack(">I", len(ENVELOPE)) + ENVELOPE + bytes(4)

WAYS: dict[str, tuple[dict[str, str], bytes]] = {
    "Micro-Endpoint": ({**JSON, "Micro-Endpoint": "Admin.Delete"}, b"{}"),
    "Micro-Method": ({**JSON, "Micro-Method": "Admin.Delete"}, b"{}"),
    "X-Micro-Endpoint": ({**JSON, "X-Micro-Endpoint": "Admin.Delete"}, b"{}"),
    "X-Micro-Method": ({**JSON, "X-Micro-Method": "Admin.Delete"}, b"{}"),
    "beside an end": ({**JSON, "Micro-Endpoint": "Admin.Delete", "Micro-Error": "EOS"}, b"{}"),
    "a head and an envelope": ({**JSONRPC, "Micro-Endpoint": "Admin.Delete"}, IN_JSON.replace(b"Admin", b"Debug")),
    "in the body, as JSON": (JSON, IN_JSON),
    "in the body, as json-rpc": (JSONRPC, IN_JSON),
    "in the body, twice": (JSON, TWICE_IN_JSON),
    "in the body, beside an end": ({**JSON, "Micro-Error": "EOS"}, IN_JSON),
    "in the body, for a target": ({**JSON, "Micro-Service": "admin", "Micro-Target": "x"}, IN_JSON),
    "in the body, as protobuf": (PROTO, IN_PROTO),
    "in the body, as proto-rpc": (PROTORPC, IN_PROTO),
    "in the body, as bytes": ({"Content-Type": "application/octet-stream"}, IN_PROTO),
    "Micro-Topic": ({**JSON, "Micro-Topic": "orders"}, b"{}"),
    "X-Micro-Topic": ({**JSON, "X-Micro-Topic": "orders"}, b"{}"),
    "a topic beside an endpoint": ({**JSON, "Micro-Topic": "orders", "Micro-Endpoint": "Debug.Health"}, b"{}"),
}
STREAMS: dict[str, tuple[dict[str, str], bytes]] = {
    f"a stream, {name}": ({**headers, "Micro-Stream": "1", "Micro-Id": "1"}, body)
    for name, (headers, body) in WAYS.items()
    if "Topic" not in name and "end" not in name and "topic" not in name
}


def admin(transport: Any, network: MemoryNetwork, handled: list[str]) -> Service:
    host = PluginHost()
    host.register("extension", "auth", Auth(tokens={"root": digest("root-token")}, allow=RULES))
    registry = MemoryRegistry(network=network)
    service = Service(
        "admin", address="127.0.0.1:0", registry=registry, transport=transport, broker="memory", linger=0,
        plugins=host, extensions="auth",
    )  # fmt: skip

    @service.handler
    class Admin:
        async def delete(self, request: dict[str, Any]) -> str:
            handled.append("delete")
            return "deleted"

        async def purge(self, request: Empty) -> Empty:
            handled.append("purge")
            return request

    @service.subscriber("orders")
    async def ordered(message: dict[str, Any]) -> None:
        handled.append("ordered")

    return service


@asynccontextmanager
async def by_http(url: str, verify: ssl.SSLContext | bool = True) -> AsyncIterator[Send]:
    async with httpx.AsyncClient(trust_env=False, timeout=5, http2=url.startswith("https"), verify=verify) as client:

        async def send(headers: dict[str, str], body: bytes) -> str:
            reply = await client.post(url, headers=headers, content=body)
            assert reply.http_version == ("HTTP/2" if url.startswith("https") else "HTTP/1.1")
            return str(reply.headers.get("Micro-Error", ""))

        yield send


@asynccontextmanager
async def by_channel(address: str, transport: Any, metadata: dict[str, str]) -> AsyncIterator[Send]:
    async with transport:
        channel = transport.connect(Node(id="n", address=address, metadata=metadata))

        async def send(headers: dict[str, str], body: bytes) -> str:
            raw = {name.encode(): value.encode() for name, value in headers.items()}
            if "Micro-Stream" not in headers:
                reply = await channel.call(Head(raw), 1, {}, body, math.inf)
                return str(reply.headers.get(b"Micro-Error", b""), "utf-8")
            stream = await channel.open_stream(math.inf)
            await stream.send(Head(raw), {}, body)
            reply = await stream.receive()
            await stream.aclose()
            return str(reply.headers.get(b"Micro-Error", b""), "utf-8")

        yield send


@asynccontextmanager
async def asked(carrier: str, handled: list[str], authority: Any) -> AsyncIterator[Send]:
    """Run the service, and give what sends it requests by one of `CARRIERS`."""
    network = MemoryNetwork()
    transport: Any = MemoryTransport(network=network) if carrier == "memory" else HttpTransport()
    if carrier == "HTTP/2":
        cert, key = authority.issue("admin")
        transport = HttpTransport(tls=Tls(cert=cert, key=key, ca=authority.file))
    async with admin(transport, network, handled) as service:
        address = service.address
        carriers = {
            "HTTP/1.1": lambda: by_http(f"http://{address}/"),
            "HTTP/2": lambda: by_http(f"https://{address}/", ssl.create_default_context(cafile=authority.file)),
            "a channel": lambda: by_channel(address, HttpTransport(), {"micro": "1", "protocol": "mucp"}),
            "memory": lambda: by_channel(address, MemoryTransport(network=network), {}),
        }
        async with carriers[carrier]() as send:
            yield send


CARRIERS = ["HTTP/1.1", "HTTP/2", "a channel", "memory"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_no_way_of_naming_what_is_asked_for_goes_round_the_guards(carrier: str, way: str, authority: Any) -> None:
    headers, body = WAYS[way]
    handled: list[str] = []
    async with asked(carrier, handled, authority) as send:
        for _ in range(2):  # the second time everything about the endpoint is known
            error = await send(headers, body)
            assert '"code":401' in error
            assert '"executed":"no"' in error
            assert handled == []
            assert await send(headers | ROOT, body) == ""
            assert len(handled) == 1
            handled.clear()


@pytest.mark.parametrize("way", STREAMS)
@pytest.mark.parametrize("carrier", ["a channel", "memory"])
async def test_no_way_of_opening_a_stream_goes_round_the_guards(carrier: str, way: str, authority: Any) -> None:
    headers, body = STREAMS[way]
    handled: list[str] = []
    async with asked(carrier, handled, authority) as send:
        assert '"code":401' in await send(headers, body)
        assert handled == []
        assert await send(headers | ROOT, body) == ""
        assert len(handled) == 1


@pytest.mark.parametrize("carrier", ["a channel", "memory"])
async def test_a_stream_that_begins_with_its_end_is_closed(carrier: str, authority: Any) -> None:
    handled: list[str] = []
    headers = {**JSON, "Micro-Endpoint": "Admin.Delete", "Micro-Stream": "1", "Micro-Id": "1", "Micro-Error": "EOS"}
    async with asked(carrier, handled, authority) as send:
        with pytest.raises(ConnectionLost):
            await send(headers, b"{}")
    assert handled == []
