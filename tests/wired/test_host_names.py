"""Nodes whose address has a host name: found, connected to, and resolved again at each connect."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from micro_core import Client, Service

pytestmark = pytest.mark.anyio


def greeter(address: str, answer: str, **settings: Any) -> Service:
    service = Service("greeter", address=address, linger=0, **settings)

    @service.handler
    async def hello() -> str:
        return answer

    return service


async def test_a_service_is_registered_and_called_by_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_REGISTRY", "mdns://?interface=127.0.0.1")
    monkeypatch.setenv("MICRO_SERVER_ADVERTISE", "localhost")
    async with greeter("127.0.0.1:0", "hello") as service, Client() as client:
        assert service.node.address == f"localhost:{service.address.rpartition(':')[2]}"
        assert await client.call("greeter", "Greeter.Hello", None, str) == "hello"


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False}), "trio"], ids=["asyncio", "trio"])
async def test_a_name_is_resolved_again_at_each_connect(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop resolves in C, where no test can stand between."""
    monkeypatch.setenv("MICRO_REGISTRY", "memory")
    place, resolve = ["127.0.0.1"], socket.getaddrinfo

    def resolved(host: Any, *arguments: Any, **named: Any) -> Any:
        return resolve(place[0] if host in ("greeter.test", b"greeter.test") else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    async with greeter("127.0.0.1:0", "first") as first:
        port = first.address.rpartition(":")[2]
        monkeypatch.setenv("MICRO_REGISTRY", f"static://?greeter=greeter.test:{port}")
        async with Client() as client:
            assert await client.call("greeter", "Greeter.Hello", None, str) == "first"
            monkeypatch.setenv("MICRO_REGISTRY", "memory")
            async with greeter(f"127.0.0.2:{port}", "second"):
                await first.__aexit__(None, None, None)
                place[0] = "127.0.0.2"
                assert await client.call("greeter", "Greeter.Hello", None, str, idempotent=True) == "second"
