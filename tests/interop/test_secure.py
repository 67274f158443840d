"""Go Micro's ``transport.Secure(true)`` and our TLS: certificates that nobody vouches for, and clients that mind."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from harness.cells import GO
from harness.network import Network
from harness.peers import Peers

NAME = ("--name", "guest")
CASES = "empty_unary,large_unary,concurrent_unary,server_stream,ping_pong,cancel_after_first_response"
FINGERPRINT = """
import hashlib, ssl, sys
host, _, port = sys.argv[1].rpartition(":")
certificate = ssl.get_server_certificate((host, int(port)))
print(hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest())
"""
every_go = pytest.mark.parametrize("go", GO)


def fingerprint(network: Network, address: str) -> str:
    """Return the SHA-256 of the certificate that is presented at an address."""
    return network.start(sys.executable, "-c", FINGERPRINT, address).output().strip()


def carried(network: Network) -> int:
    """Return how many bytes the network has carried."""
    (loopback,) = [line for line in network.start("cat", "/proc/net/dev").output().splitlines() if " lo:" in line]
    return int(loopback.split()[9])


@every_go
def test_a_secure_go_service_is_called_by_the_pin_of_its_certificate(go: str, network: Network, peers: Peers) -> None:
    ready = peers.starting(go, network, *NAME, "--secure").line_with("ready")
    pin = fingerprint(network, ready.split()[1])
    outcomes = peers.client("python", network, CASES, *NAME, settings={"MICRO_TLS_PIN": pin}).outcomes()
    assert len(outcomes) == 6
    assert [outcome for outcome in outcomes if not outcome["ok"]] == []


@every_go
def test_not_a_byte_of_a_request_reaches_a_go_service_that_is_not_pinned(
    go: str, network: Network, peers: Peers
) -> None:
    ready = peers.starting(go, network, *NAME, "--secure").line_with("ready")
    presented, before = fingerprint(network, ready.split()[1]), carried(network)
    (outcome,) = peers.client("python", network, "unary_1MiB", *NAME, settings={"MICRO_TLS_PIN": "ab" * 32}).outcomes()
    assert not outcome["ok"]
    assert f"its certificate's sha256 is {presented}, which is not pinned" in outcome["detail"]
    assert carried(network) - before < 200_000
    (pinned,) = peers.client("python", network, "unary_1MiB", *NAME, settings={"MICRO_TLS_PIN": presented}).outcomes()
    assert pinned["ok"]
    assert carried(network) - before > 2_000_000


@every_go
def test_a_secure_go_client_calls_a_python_service(go: str, network: Network, peers: Peers, authority: Any) -> None:
    """From v4.10 on it asks for a certificate of an authority that its machine knows."""
    cert, key = authority.issue("guest")
    peers.server("python", network, *NAME, settings={"MICRO_TLS_CERT": cert, "MICRO_TLS_KEY": key})
    known = {} if go == "v1" else {"SSL_CERT_FILE": authority.file}
    outcomes = peers.client(go, network, CASES, *NAME, "--secure", settings=known).outcomes()
    assert len(outcomes) == 6
    assert [outcome for outcome in outcomes if not outcome["ok"]] == []


@pytest.mark.parametrize("server", ["python", "itself"])
@pytest.mark.parametrize("go", ["v4", "v5"])
def test_a_secure_go_client_from_v4_10_on_refuses_what_its_machine_does_not_trust(
    go: str, server: str, network: Network, peers: Peers, authority: Any
) -> None:
    cert, key = authority.issue("guest")
    if server == "python":
        peers.server("python", network, *NAME, settings={"MICRO_TLS_CERT": cert, "MICRO_TLS_KEY": key})
    else:
        peers.server(go, network, *NAME, "--secure")
    (outcome,) = peers.client(go, network, "empty_unary", *NAME, "--secure").outcomes()
    assert not outcome["ok"]
    assert "x509: certificate signed by unknown authority" in outcome["detail"]
