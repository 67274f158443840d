"""Which addresses this machine has, and which of them leads to somebody; nothing is sent to find out."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import anyio

__all__ = ["addresses", "changes", "route"]

_ON_LINUX = bool(sys.platform == "linux")
_SIOCGIFFLAGS, _SIOCGIFADDR = 0x8913, 0x8915
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
_GLOBAL_SCOPE = "00"
_RTMGRP_LINK, _RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR, _RTMGRP_IPV4_ROUTE = 0x1, 0x10, 0x100, 0x40
_SETTLING_SECONDS = 0.2
"""An interface that comes up is told in several messages: link, addresses, routes."""


def addresses() -> list[str]:
    """Return the addresses of interfaces that are up, loopback and link-local ones left out, those of IPv4 first.

    An interface without a carrier, such as a bridge that nothing hangs on, is not up. Elsewhere than on Linux they are
    the addresses of the machine's own name.
    """
    found = list(_on_linux()) if _ON_LINUX else list(_of_own_name())
    return [text for text in dict.fromkeys(found) if _is_reachable(text)]


def route(towards: str) -> str:
    """Return the address by which this machine reaches the IP address ``towards``; empty where it cannot."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((towards, 9))  # a UDP socket: nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return ""


async def changes() -> AsyncGenerator[None, None]:
    """Tell of changes of this machine's addresses and routes, as far as the system does: Linux does, by netlink.

    Ends at once where it does not.
    """
    if sys.platform != "linux":
        return
    try:
        listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
    except OSError:
        return
    with listening:
        try:
            groups = _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV4_ROUTE
            listening.bind((0, groups))
        except OSError:
            return
        while True:
            await anyio.wait_readable(listening)
            await anyio.sleep(_SETTLING_SECONDS)
            _read_all(listening)
            yield


def _read_all(listening: socket.socket) -> None:
    """Take what was told; how things are now is asked anew, so that it need not be understood, nor be complete."""
    while True:
        try:
            listening.recv(65536)
        except BlockingIOError:
            return
        except OSError:  # more was told than the socket holds
            continue


def _is_reachable(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast)


def _on_linux() -> Iterator[str]:
    if sys.platform != "linux":
        return
    import fcntl

    up: set[str] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(asking, _SIOCGIFFLAGS, request), 16)[0]
                if not flags & _IFF_UP or not flags & _IFF_RUNNING or flags & _IFF_LOOPBACK:
                    continue
                up.add(name)
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, request)
            except OSError:
                continue  # gone meanwhile, or without an IPv4 address
            yield socket.inet_ntoa(answer[20:24])
    yield from _ipv6_on_linux(up)


def _ipv6_on_linux(up: set[str]) -> Iterator[str]:
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        digits, _, _, scope, _, name = line.split()
        if scope == _GLOBAL_SCOPE and name in up:
            yield str(ipaddress.IPv6Address(int(digits, 16)))


def _of_own_name() -> Iterator[str]:
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_DGRAM)
    except OSError:
        return
    for _, _, _, _, address in sorted(found):
        yield str(address[0]).partition("%")[0]
