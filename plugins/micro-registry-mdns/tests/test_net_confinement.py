"""A socket is confined where the system can do that, and left alone where the same number means something else."""

import socket
import sys
from collections.abc import Iterator

import pytest

from micro_registry_mdns.net import confinement


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        yield opened


@pytest.mark.skipif(not confinement._ON_LINUX, reason="only Linux confines a socket")
def test_a_socket_on_linux_hears_only_what_it_joined(sock: socket.socket) -> None:
    assert confinement.confine_to_memberships(sock)
    assert sock.getsockopt(socket.IPPROTO_IP, confinement._IP_MULTICAST_ALL) == 0


def test_elsewhere_no_option_is_touched(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "_ON_LINUX", False)
    monkeypatch.delattr(socket, "SO_BINDTODEVICE", raising=False)
    assert not confinement.confine_to_memberships(sock)
    assert not confinement.confine_to_loopback(sock)
    if sys.platform == "linux":
        assert sock.getsockopt(socket.IPPROTO_IP, confinement._IP_MULTICAST_ALL) == 1
