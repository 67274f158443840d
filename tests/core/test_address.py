"""Addresses as texts, and sockets that listen on them."""

from __future__ import annotations

import socket

import pytest

from micro_core import ConfigError
from micro_core.address import advertised, join_address, port_range, reach, split_address, split_literal
from micro_core.sockets import listening_socket


def test_an_address_is_taken_apart_and_put_together() -> None:
    for address, host in [("10.0.0.5:80", "10.0.0.5"), ("[fd00::5]:80", "fd00::5"), ("greeter:80", "greeter")]:
        assert split_address(address) == (host, 80)
        assert join_address(host, 80) == address


@pytest.mark.parametrize("address", ["greeter:80", "localhost:80", ":80", "10.0.0.5", "10.0.0.256:80", "[10.0.0.5]:80"])
def test_what_dns_has_to_be_asked_about_is_no_literal_address(address: str) -> None:
    with pytest.raises(ConfigError, match="valid is a literal IP address and a port"):
        split_literal(address)


def test_a_mapped_address_is_written_as_the_ipv4_address_that_it_is() -> None:
    assert join_address("::ffff:127.0.0.1", 80) == "127.0.0.1:80"
    assert join_address("::ffff:0:1", 80) == "[::ffff:0:1]:80"


def test_a_range_of_ports_is_an_address_to_listen_at() -> None:
    assert port_range("host:5000-6000") == ("host", range(5000, 6001))
    assert port_range("*:0") == ("*", range(1))
    assert port_range("[::1]:80") == ("::1", range(80, 81))
    with pytest.raises(ConfigError, match="empty"):
        port_range("host:6000-5000")


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", "host:x", "host:99999", "::1:80", "[::1:80", "ho st:80", "host:-1", "host:\u0665", "[x]y:1"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError):
        split_address(address)
    with pytest.raises(ConfigError):
        port_range(address)


@pytest.mark.parametrize("bound", [":80", "*:80", "[::]:80", "0.0.0.0:80"])
def test_who_listens_everywhere_is_advertised_by_a_literal_address(bound: str) -> None:
    host, port = split_address(advertised(bound, ""))
    assert host not in ("", "*", "::", "0.0.0.0")
    assert port == 80
    assert reach(bound) == "whoever reaches any interface of this machine"


def test_what_is_advertised_goes_before_what_is_bound() -> None:
    assert advertised("[::]:80", "10.0.0.5") == "10.0.0.5:80"
    assert advertised("[::]:80", "fd00::5") == "[fd00::5]:80"
    assert advertised("[::]:80", "[fd00::5]") == "[fd00::5]:80"
    assert advertised("[::]:80", "[fd00::5]:90") == "[fd00::5]:90"
    assert advertised("[::]:80", "greeter.example") == "greeter.example:80"
    assert advertised("[::]:80", "greeter.example.:90") == "greeter.example.:90"


@pytest.mark.parametrize(
    "host", ["10.0.0.256", "1", "-a", "a-", "a..b", "a b", "ä", "a" * 64, ".".join(["a" * 60] * 5)]
)
def test_what_can_be_no_host_is_not_advertised(host: str) -> None:
    with pytest.raises(ConfigError, match=r"no address|a node's host is an IP address or a name"):
        advertised("[::]:80", f"{host}:80")


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["", "*", "::"])
async def test_one_socket_listens_for_both_families(host: str) -> None:
    with await listening_socket(host, 0) as listening:
        port = listening.getsockname()[1]
        families = ["127.0.0.1", "::1"] if listening.family == socket.AF_INET6 else ["127.0.0.1"]
        for caller in families:
            with socket.create_connection((caller, port), timeout=5):
                pass


@pytest.mark.anyio
async def test_all_interfaces_of_ipv4_are_no_others() -> None:
    with await listening_socket("0.0.0.0", 0) as listening:
        assert listening.family == socket.AF_INET


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["", "127.0.0.1"])
async def test_a_port_in_use_is_not_taken(host: str) -> None:
    with await listening_socket(host, 0) as first, pytest.raises(OSError, match="in use"):
        await listening_socket(host, first.getsockname()[1])


def test_who_listens_on_ipv4_alone_is_told_by_an_address_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micro_core.network_interfaces.route", lambda towards: "fd00::5" if ":" in towards else "")
    monkeypatch.setattr("micro_core.network_interfaces.addresses", lambda: ["fd00::5", "10.0.0.5"])
    assert advertised("0.0.0.0:80", "") == "10.0.0.5:80"
    assert advertised("[::]:80", "") == "[fd00::5]:80"


def test_the_address_on_the_way_to_the_server_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micro_core.network_interfaces.route", {"10.1.0.9": "10.1.0.5", "192.0.2.1": "10.0.0.5"}.get)
    assert advertised(":80", "", "10.1.0.9") == "10.1.0.5:80"
    assert advertised(":80", "", "10.2.0.9") == "10.0.0.5:80"
    assert advertised(":80", "", "") == "10.0.0.5:80"


def test_loopback_is_told_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micro_core.network_interfaces.route", lambda towards: "127.0.0.1")
    monkeypatch.setattr("micro_core.network_interfaces.addresses", list)
    assert advertised(":80", "", "127.0.0.1") == "127.0.0.1:80"
    assert reach(":80") == "this machine only, which has no network"
