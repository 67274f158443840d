"""The addresses of this machine: where to speak, who is local, and which networks are its own."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
import time
from pathlib import Path

__all__ = ["Locality", "addresses", "networks"]

_ON_LINUX = bool(sys.platform == "linux")
_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
_NOWHERE = "0.0.0.0"  # where a socket bound to no address asks from when loopback is all there is; answers stay here
_KNOWN_FOR = 5.0
_MAX_KNOWN = 1_024


def addresses() -> list[str]:
    """Return one IPv4 address of each interface that has one, loopback included."""
    if _ON_LINUX:
        return _addresses_on_linux()
    import ifaddr  # elsewhere only: importing it costs more than a look-up

    adapters = [[ip.ip for ip in adapter.ips if ip.is_IPv4] for adapter in ifaddr.get_adapters()]
    return [str(ips[0]) for ips in adapters if ips]


def _addresses_on_linux() -> list[str]:
    if sys.platform != "linux":
        return []
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, request)
            except OSError:
                continue  # no IPv4 address
            found.append(socket.inet_ntoa(answer[20:24]))
    return found


def networks() -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Return the networks that this machine has an address on, loopback left out."""
    found = _networks_on_linux() if _ON_LINUX else _networks_elsewhere()
    plain = [ipaddress.ip_network(text, strict=False) for text in found]
    return [one for one in plain if not one.is_loopback]


def _networks_on_linux() -> list[str]:
    if sys.platform != "linux":
        return []
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                host, mask = (fcntl.ioctl(asking, what, request)[20:24] for what in (_SIOCGIFADDR, _SIOCGIFNETMASK))
            except OSError:
                continue  # no IPv4 address
            found.append(f"{socket.inet_ntoa(host)}/{socket.inet_ntoa(mask)}")
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").split("\n")
    except OSError:
        return found
    for digits, _, length, *_ in filter(None, map(str.split, lines)):
        found.append(f"{ipaddress.IPv6Address(int(digits, 16))}/{int(length, 16)}")
    return found


def _networks_elsewhere() -> list[str]:
    import ifaddr

    ips = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return [f"{ip.ip if ip.is_IPv4 else ip.ip[0]}/{ip.network_prefix}" for ip in ips]


class Locality:
    """Tells whether an address is this machine's; remembers for some seconds."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, bool]] = {}

    def is_local(self, address: str) -> bool:
        """Return whether ``address`` belongs to this machine."""
        if address.startswith("127.") or address == _NOWHERE:
            return True
        now = time.monotonic()
        since, local = self._known.get(address, (-_KNOWN_FOR, False))
        if now - since < _KNOWN_FOR:
            return local
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        local = _is_own(address)
        self._known[address] = now, local
        return local


def _is_own(address: str) -> bool:
    """Ask the routing table: who reaches an own address does so from that address. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))
        except OSError:
            return False
        own: str = sock.getsockname()[0]
        return own == address
