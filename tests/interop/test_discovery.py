"""Discovery over real multicast DNS: hosts with Go v5, Go v1.18 and Python on one Ethernet, and on two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.network import Network, lan, plug
from harness.peers import Peers

HOSTS = {"v5": "10.99.0.1", "v1": "10.99.0.2", "python": "10.99.0.3"}
FOUND = [("python", "v5"), ("python", "v1"), ("v5", "python"), ("v1", "python"), ("v1", "v5")]
"""Who finds whom; v5 does not find v1.18, which does not echo the question (docs/wire.md §1.7)."""


@pytest.fixture
def hosts(tmp_path: Path, stack: ExitStack) -> dict[str, Network]:
    return dict(zip(HOSTS, lan(tmp_path, stack, len(HOSTS)), strict=True))


def nodes(peers: Peers, peer: str, network: Network, name: str) -> dict[str, object]:
    """Return what a peer that asks the registry now is told."""
    client = peers.client(peer, network, "list_nodes", "--name", name)
    found = client.event("nodes")
    (outcome,) = client.outcomes()
    assert outcome["ok"], outcome
    return found


def looks(peers: Peers, peer: str, network: Network, name: str) -> Iterator[dict[str, object]]:
    """Look ten times, one of which has to do: Go listens for 100 ms, too short on a busy machine."""
    return (nodes(peers, peer, network, name) for _ in range(10))


def test_three_hosts_find_call_stream_and_publish(hosts: dict[str, Network], peers: Peers) -> None:
    for peer, address in HOSTS.items():
        peers.server(peer, hosts[peer], "--name", f"on-{peer}", "--address", f"{address}:0")
    cases = "discover_and_list,empty_unary,server_stream"
    published = ",publish_broadcast"  # Go's own lines do not understand each other (docs/wire.md §4.2)
    failed = []
    for client, server in FOUND:
        asked = cases + published * ("python" in (client, server))
        outcomes = peers.client(client, hosts[client], asked, "--name", f"on-{server}").outcomes()
        failed += [(client, server, outcome) for outcome in outcomes if not outcome["ok"]]
    assert failed == []
    assert nodes(peers, "v5", hosts["v5"], "on-v1")["count"] == 0


@pytest.mark.parametrize(("asking", "serving"), FOUND)
def test_a_service_that_stops_dies_or_moves(hosts: dict[str, Network], peers: Peers, asking: str, serving: str) -> None:
    where = ("--name", "guest", "--address", f"{HOSTS[serving]}:0")
    first = peers.starting(serving, hosts[serving], *where)
    old = first.line_with("ready").split()[1]
    assert [old] in (look["addresses"] for look in looks(peers, asking, hosts[asking], "guest"))
    first.kill()
    second = peers.starting(serving, hosts[serving], *where)
    new = second.line_with("ready").split()[1]
    assert new != old
    assert [new] in (look["addresses"] for look in looks(peers, asking, hosts[asking], "guest"))
    assert second.stop() == 0
    assert nodes(peers, asking, hosts[asking], "guest")["addresses"] == []


@pytest.mark.parametrize(("asking", "serving"), [pair for pair in FOUND if "python" in pair])
def test_a_hundred_nodes_are_found_at_once(network: Network, peers: Peers, asking: str, serving: str) -> None:
    address = "127.0.0.1:4001" if serving == "python" else "127.0.0.1:0"
    peers.server(serving, network, "--name", "many", "--nodes", "100", "--address", address)
    assert 100 in (look["count"] for look in looks(peers, asking, network, "many"))


def test_a_host_in_two_subnets_sees_both_and_each_of_them_only_its_own(
    tmp_path: Path, stack: ExitStack, peers: Peers
) -> None:
    left, middle = lan(tmp_path, stack, 2, subnet=1)
    switch = Network(
        tmp_path, stack, "ip link set lo up; ip link add switch type bridge; ip link set switch up", inside=left
    )
    right = Network(tmp_path, stack, "ip link set lo up", inside=left)
    plug(switch, middle, "port1", "10.2.0.2", "eth1")
    plug(switch, right, "port2", "10.2.0.3", "eth0")
    right.run("ip route add 224.0.0.0/4 dev eth0")
    peers.server("python", left, "--name", "left", "--address", "10.1.0.1:0")
    peers.server("python", right, "--name", "right", "--address", "10.2.0.3:0")
    for name in ("left", "right"):
        (outcome,) = peers.client("python", middle, "empty_unary", "--name", name).outcomes()
        assert outcome["ok"], outcome
    assert nodes(peers, "python", left, "right")["count"] == 0
    assert nodes(peers, "python", right, "left")["count"] == 0
