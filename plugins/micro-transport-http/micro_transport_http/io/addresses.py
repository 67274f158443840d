"""A node's address as a host and port to dial, and a socket's name as text (docs/wire.md §2.6)."""

from __future__ import annotations

from typing import Any

from micro_core import ConfigError
from micro_core.address import join_address, split_address

__all__ = ["dialled", "name_of"]

_UNSPECIFIED = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}
"""What a peer calls itself when it listens everywhere; from here only this machine can be meant."""


def name_of(address: Any) -> str:
    """Return a socket's address as text."""
    return join_address(str(address[0]), address[1]) if isinstance(address, tuple) else str(address or "")


def dialled(address: str) -> tuple[str, int]:
    """Return the host and port to connect to. Raises `ConfigError`."""
    host, port = split_address(address)
    if port == 0:
        raise ConfigError(f"{address!r}: port 0 cannot be dialled")
    return _UNSPECIFIED.get(host, host), port
