"""Where the broker listens, and the address that others are told."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable

from micro_core import ConfigError

__all__ = ["advertised", "bind"]

_BACKLOG = 1024
# Never sent to: a UDP socket that is "connected" there shows which of our addresses the system would use.
_PROBES = (("10.255.255.255", socket.AF_INET), ("192.0.2.1", socket.AF_INET), ("fd00::1", socket.AF_INET6))


def bind(address: str) -> socket.socket:
    """Return a socket that listens on ``host:port``; port 0 is any, no host all interfaces. Raises `ConfigError`."""
    host, port = _split(address)
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, target = found[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"broker address {address!r} cannot be bound: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(target)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(f"broker address {address!r} cannot be bound: {error.strerror or error}") from error
    return listener


def _split(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
        raise ConfigError(f"broker address {address!r} is not host:port, such as '127.0.0.1:0' or '[::1]:8081'")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"broker address {address!r} needs brackets round its IPv6 address")
    return host, int(port)


def advertised(listener: socket.socket, own_address: Callable[[int], str] | None = None) -> str:
    """Return ``host:port`` with a literal address that others can reach (docs/wire.md §1.10)."""
    host, port = listener.getsockname()[:2]
    bound = ipaddress.ip_address(host)
    if bound.is_unspecified:
        host = (own_address or _own_address)(bound.version)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _own_address(version: int) -> str:
    """Return an address of this machine: a private one first, then a public one, loopback last."""
    found = [ipaddress.ip_address("127.0.0.1" if version == 4 else "::1")]
    for target, family in _PROBES:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            found.append(ipaddress.ip_address(probe.getsockname()[0]))
    usable = [ip for ip in found if ip.version == version]
    return str(min(usable, key=lambda ip: (ip.is_loopback, not ip.is_private)))
