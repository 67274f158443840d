"""Where the broker listens."""

from __future__ import annotations

import socket

from micro_core import ConfigError
from micro_core.address import join_address, split_address
from micro_core.sockets import listening_socket

__all__ = ["bind", "bound_address"]


async def bind(address: str) -> socket.socket:
    """Return a socket that listens on ``host:port``; port 0 is any, no host all interfaces. Raises `ConfigError`."""
    try:
        listener = await listening_socket(*split_address(address))
    except ConfigError as error:
        raise ConfigError(f"broker address {error.detail}") from error
    except OSError as error:
        raise ConfigError(f"broker address {address!r} cannot be bound: {error.strerror or error}") from error
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def bound_address(listener: socket.socket) -> str:
    """Return the ``host:port`` that a socket is bound to."""
    return join_address(*listener.getsockname()[:2])
