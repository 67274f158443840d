"""Peers that die, freeze or stop in the middle of things, and messages in a burst."""

from __future__ import annotations

import signal

import pytest

from harness.cells import GO
from harness.network import Network
from harness.peers import Peers

NAME = ("--name", "guest")
every_go = pytest.mark.parametrize("go", GO)


@every_go
def test_the_handler_of_a_go_client_that_is_killed_is_cancelled(go: str, network: Network, peers: Peers) -> None:
    peers.server("python", network, *NAME)
    caller = peers.client(go, network, "empty_unary,hang", *NAME)
    caller.line_with("empty_unary")
    witness = peers.client("python", network, "calls_for_a_while,somebody_has_left", *NAME, "--calls", "40")
    witness.event("calling")
    witness.go_on()
    witness.line_with("calls_for_a_while")
    caller.kill()
    (outcome,) = witness.outcomes()
    assert outcome["ok"], outcome


@every_go
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
def test_no_idempotent_call_fails_when_one_of_three_go_servers_dies_or_freezes(
    go: str, fault: signal.Signals, network: Network, peers: Peers
) -> None:
    servers = [peers.server(go, network, *NAME) for _ in range(3)]
    client = peers.client("python", network, "calls_for_a_while", *NAME, "--calls", "300")
    client.event("calling")
    client.go_on()
    servers[0].signal(fault)
    (outcome,) = client.outcomes()
    assert outcome["ok"], outcome


@every_go
def test_a_python_service_that_stops_costs_a_go_client_with_ten_idle_connections_no_call(
    go: str, network: Network, peers: Peers
) -> None:
    stopping, _ = [peers.server("python", network, *NAME) for _ in range(2)]
    client = peers.client(go, network, "idle_pool", *NAME)
    client.event("idle")
    stopping.signal(signal.SIGTERM)
    client.go_on()
    (outcome,) = client.outcomes()
    assert outcome["ok"], outcome
    assert stopping.ended() == 0


@pytest.mark.parametrize("go", ["v1", "v5"])
def test_what_python_publishes_to_go_in_a_burst_all_arrives(go: str, network: Network, peers: Peers) -> None:
    peers.server(go, network, *NAME)
    (outcome,) = peers.client("python", network, "publish_burst", *NAME, "--calls", "2000").outcomes()
    assert outcome["ok"], outcome


@every_go
def test_what_go_publishes_in_a_burst_and_loses_itself_is_counted(go: str, network: Network, peers: Peers) -> None:
    """Go's broker drops what its inbox of 64 has no room for, and says nothing (docs/wire.md §4.2)."""
    peers.server("python", network, *NAME)
    client = peers.client(go, network, "publish_burst", *NAME, "--calls", "300")
    arrived = client.event("arrived")["count"]
    assert client.outcomes()[0]["ok"]
    assert 64 <= arrived <= 300
