"""Where the broker listens."""

from __future__ import annotations

import socket
from typing import Any

from micro_core import ConfigError

__all__ = ["bind", "bound_address", "joined"]

_BACKLOG = 1024


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


def bound_address(listener: socket.socket) -> str:
    """Return the ``host:port`` that a socket is bound to."""
    return joined(listener.getsockname())


def joined(name: Any) -> str:
    """Return the ``host:port`` of a socket's name."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
