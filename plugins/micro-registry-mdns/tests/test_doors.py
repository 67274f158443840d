"""What is refused of what strangers on the network say, and how little a flood of it changes."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import anyio
import pytest

from micro_core import Change, ChangeKind, ConfigError, Node, Record
from micro_registry_mdns.net.interfaces import Locality, networks
from micro_registry_mdns.peer.catalogue import Catalogue
from micro_registry_mdns.peer.door import Budget, Door, network
from micro_registry_mdns.registry import MdnsRegistry
from micro_registry_mdns.wire import gomicro, txt
from micro_registry_mdns.wire.sighting import Sighting

OWN = [ipaddress.ip_network("10.7.0.0/24"), ipaddress.ip_network("fd07::/64")]
NEIGHBOUR = "10.7.0.9"


def door(*allowed: str) -> Door:
    return Door(Locality(), [network(text) for text in allowed], time=lambda: 0.0, own=lambda: OWN)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:80",
        "127.9.9.9:80",
        "[::1]:80",
        "[::ffff:127.0.0.1]:80",
        "localhost:80",
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "169.254.3.4:80",
        "[fe80::1]:80",
        "255.255.255.255:80",
        "240.0.0.1:80",
        "0.0.0.1:80",
        "0.0.0.0:80",
        "[::]:80",
        "224.0.0.251:80",
        "10.8.0.1:80",
        "192.168.1.1:80",
        "8.8.8.8:80",
        "[2001:db8::1]:80",
    ],
)
def test_what_a_neighbour_may_not_tell_of(address: str) -> None:
    assert door().refuses(NEIGHBOUR, address)


@pytest.mark.parametrize(
    "address", ["10.7.0.9:80", "10.7.0.44:80", "[::ffff:10.7.0.44]:80", "[fd07::5]:80", "greeter:80"]
)
def test_what_a_neighbour_may_tell_of(address: str) -> None:
    assert door().refuses(NEIGHBOUR, address) == ""


def test_a_process_of_this_machine_may_tell_of_any_address_but_those_that_are_nobody_s() -> None:
    assert door().refuses("127.0.0.1", "127.0.0.1:80") == ""
    assert door().refuses("127.0.0.1", "10.99.0.1:80") == ""
    assert door().refuses("127.0.0.1", "255.255.255.255:80")
    assert door().refuses("127.0.0.1", "169.254.169.254:80")


def test_a_network_that_is_allowed_may_be_told_of_by_anybody() -> None:
    assert door("10.8.0.0/16", "fd08::/16").refuses(NEIGHBOUR, "10.8.0.1:80") == ""
    assert door("10.8.0.0/16", "fd08::/16").refuses(NEIGHBOUR, "[fd08::1]:80") == ""
    assert door("10.8.0.0/16").refuses(NEIGHBOUR, "10.9.0.1:80")
    with pytest.raises(ConfigError, match=r"networks: '10\.8' is no network"):
        MdnsRegistry(networks=["10.8"])


def test_the_networks_of_this_machine_are_those_of_its_addresses() -> None:
    assert all(not one.is_loopback for one in networks())


def seen(sender: str, number: int, size: int = 0) -> Sighting:
    node = Node(id=f"{sender}-{number}", address=f"{sender}:80")
    return Sighting(
        dialect="gomicro",
        record=Record(name="greeter", version="1", nodes=(node,)),
        ttl=120,
        size=size,
        sender=sender,
    )


@pytest.mark.parametrize("limits", [{"limit": 100}, {"size_limit": 100 * 50}])
def test_fakes_push_out_their_own(limits: dict[str, int], caplog: pytest.LogCaptureFixture) -> None:
    catalogue = Catalogue(**limits)
    for number in range(10):
        catalogue.add(seen("10.7.0.5", number, 50), 0)
    for number in range(1_000):
        catalogue.add(seen(NEIGHBOUR, number, 50), 1)
    (new,) = [change for change in catalogue.add(seen("10.7.0.6", 0, 50), 2) if change.kind is ChangeKind.CREATE]

    senders = [node.id.partition("-")[0] for record in catalogue.records("greeter") for node in record.nodes]
    assert len(senders) == 100
    assert senders.count("10.7.0.5") == 10
    assert new.record.nodes[0].id == "10.7.0.6-0"
    assert caplog.text.count("full") == 1


def test_those_heard_of_longest_ago_make_room_first() -> None:
    catalogue = Catalogue(limit=3)
    for number in range(3):
        catalogue.add(seen(NEIGHBOUR, number), number)
    catalogue.add(seen(NEIGHBOUR, 0), 3)
    gone = catalogue.add(seen(NEIGHBOUR, 3), 4)[0]
    assert (gone.kind, gone.record.nodes[0].id) == (ChangeKind.DELETE, f"{NEIGHBOUR}-1")


def test_reading_has_a_budget_for_each_sender_and_for_all() -> None:
    budget, large = Budget(Locality()), txt.MAX_DOCUMENT
    read = 0
    while budget.left(NEIGHBOUR, 0.0, large):
        budget.spend(NEIGHBOUR, 0.0, large)
        read += 1
    assert read == 16
    assert budget.left("10.7.0.6", 0.0, large) == large
    assert budget.left(NEIGHBOUR, 1.0, large) == large
    assert budget.left("127.0.0.1", 0.0, large) == large
    senders = 0
    while budget.left(f"10.7.1.{senders}", 0.0, large):
        budget.spend(f"10.7.1.{senders}", 0.0, large)
        senders += 1
    assert senders == 48


@pytest.mark.anyio
async def test_a_forged_goodbye_is_not_believed_while_the_node_answers() -> None:
    """On loopback, whose group any process may send to."""
    async with MdnsRegistry(interface=["127.0.0.1"]) as server, MdnsRegistry(interface=["127.0.0.1"]) as client:
        record = Record(name="greeter", version="1", nodes=(Node(id="greeter-1", address="127.0.0.1:4711"),))
        await server.register(record)
        async with client.watch("greeter") as changes:
            with anyio.fail_after(10):
                assert (await anext(changes)).kind is ChangeKind.CREATE
                while (await anext(changes)).kind is not ChangeKind.SYNC:
                    pass
            for _ in range(5):
                say_goodbye(record)
                told = await next_within(changes, 0.5)
                assert told is None or told.kind is not ChangeKind.DELETE
            await server.deregister(record)
            with anyio.fail_after(10):
                while (await anext(changes)).kind is not ChangeKind.DELETE:
                    pass


def say_goodbye(record: Record) -> None:
    """Send what the node would send that leaves, as anybody can."""
    (node,) = record.nodes
    host, port = node.address.split(":")
    description = txt.Description(service=record.name, version=record.version)
    entry = gomicro.Entry(
        service=record.name, id=node.id, host="evil.", address=host, port=int(port), text=txt.split_hex(description)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.sendto(gomicro.goodbye(entry), ("224.0.0.251", 5353))


async def next_within(changes: Any, seconds: float) -> Change | None:
    with anyio.move_on_after(seconds):
        change: Change = await anext(changes)
        return change
    return None
