"""Opening, closing, addresses, options."""

from __future__ import annotations

import math
import socket
from typing import Any

import pytest

from micro_core import Closed, ConfigError, ConnectFailed, Head, Limits, Node, Request
from micro_transport_http import HttpTransport
from micro_transport_http.io.addresses import dialled

pytestmark = pytest.mark.anyio


async def test_a_range_of_ports_binds_the_first_that_is_free(open_transport: Any, echo: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        port = int(listener.address.rpartition(":")[2])
        async with transport.listen(f"127.0.0.1:{port}-{port + 50}", echo, Limits()) as second:
            assert port < int(second.address.rpartition(":")[2]) <= port + 50
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: "):
            async with transport.listen(f"127.0.0.1:{port}", echo, Limits()):
                pass


async def test_a_listener_that_stopped_accepting_serves_whom_it_has_over_http_1(
    open_transport: Any, head: Head, echo: Any
) -> None:
    """Over HTTP/2 it says GOAWAY, and a caller that has read it calls elsewhere."""

    def node(address: str) -> Node:
        return Node(id="node-1", address=address, metadata={"protocol": "mucp"})

    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        channel = transport.connect(node(listener.address))
        await channel.call(head, 1, {}, b"", math.inf)
        await listener.stop_accepting()
        await listener.stop_accepting()

        assert (await channel.call(head, 2, {}, b"still", math.inf)).body == b"still"
        with pytest.raises(ConnectFailed):
            await transport.connect(node(listener.address)).call(head, 1, {}, b"", math.inf)


@pytest.mark.parametrize("host", ["", "*", "[::]", "0.0.0.0", "127.0.0.1", "localhost"])
async def test_hosts_to_listen_on(open_transport: Any, node: Any, head: Head, echo: Any, host: str) -> None:
    async with open_transport() as transport, transport.listen(f"{host}:0", echo, Limits()) as listener:
        port = listener.address.rpartition(":")[2]
        for address in (f"127.0.0.1:{port}", f"0.0.0.0:{port}"):
            assert (await transport.connect(node(address)).call(head, 1, {}, b"a", math.inf)).body == b"a"


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["", "*", "[::]"])
async def test_who_listens_everywhere_sees_callers_of_both_families_by_their_own_addresses(
    open_transport: Any, node: Any, head: Head, host: str
) -> None:
    remotes: list[str] = []

    def receive(request: Request) -> None:
        remotes.append(request.remote.rpartition(":")[0])
        request.respond(Head({}), {}, b"")

    async with open_transport() as transport, transport.listen(f"{host}:0", receive, Limits()) as listener:
        port = listener.address.rpartition(":")[2]
        await transport.connect(node(f"127.0.0.1:{port}")).call(head, 1, {}, b"", math.inf)
        try:
            await transport.connect(node(f"[::1]:{port}")).call(head, 2, {}, b"", math.inf)
        except ConnectFailed:
            pytest.skip("IPv6 is switched off on this machine")
    assert remotes == ["127.0.0.1", "[::1]"]


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_ipv6_addresses_are_in_brackets(open_transport: Any, node: Any, head: Head, echo: Any) -> None:
    async with open_transport() as transport:
        try:
            async with transport.listen("[::1]:0", echo, Limits()) as listener:
                assert listener.address.startswith("[::1]:")
                reply = await transport.connect(node(listener.address)).call(head, 1, {}, b"six", math.inf)
        except ConfigError:
            pytest.skip("IPv6 is switched off on this machine")
    assert reply.body == b"six"


async def test_a_transport_is_used_only_while_it_is_open(open_transport: Any, node: Any, head: Head, echo: Any) -> None:
    transport = open_transport()
    channel = transport.connect(node("127.0.0.1:1"))
    with pytest.raises(Closed, match="not open"):
        await channel.call(head, 1, {}, b"", math.inf)
    assert repr(transport) == "<HttpTransport not opened, 1 channels>"

    async with transport:
        assert repr(transport) == "<HttpTransport open, 1 channels>"
        await transport.aclose()
        await transport.aclose()

    with pytest.raises(Closed):
        await channel.call(head, 1, {}, b"", math.inf)
    with pytest.raises(Closed):
        async with transport.listen("127.0.0.1:0", echo, Limits()):
            pass
    assert repr(transport) == "<HttpTransport closed, 0 channels>"


async def test_the_users_exception_leaves_as_it_is(open_transport: Any, echo: Any) -> None:
    with pytest.raises(KeyError):
        async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()):
            raise KeyError("mine")


async def test_leaving_closes_connections_of_all_kinds(open_transport: Any, node: Any, head: Head, dial: Any) -> None:
    async with open_transport() as transport, open_transport() as other:
        async with transport.listen("127.0.0.1:0", lambda request: None, Limits()) as listener:
            stream = await other.connect(node(listener.address)).open_stream(math.inf)
            await stream.send(head, {b"Micro-Id": b"1", b"Micro-Stream": b"1"}, b"")
            connection = dial(listener.address)
            raw = await connection.__aenter__()
        assert await raw.rest() == b""
        await connection.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", "host:x", "host:99999", "::1:80", "[::1:80", "ho st:80", "host:-1", "host:\u0665", "[x]y:1"],
)
async def test_addresses_that_are_none_are_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        dialled(address)


async def test_a_node_that_listens_everywhere_is_dialled_on_this_machine() -> None:
    assert dialled("10.0.0.5:80") == ("10.0.0.5", 80)
    assert dialled("[::]:80") == ("::1", 80)
    assert dialled(":80") == ("127.0.0.1", 80)
    with pytest.raises(ConfigError, match="port 0"):
        dialled("host:0")


async def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="dial_timeout=0"):
        HttpTransport(dial_timeout=0)
