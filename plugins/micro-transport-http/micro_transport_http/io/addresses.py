"""Addresses as texts: ``host:port``, ``[::1]:port``, and ranges of ports to listen on (docs/wire.md §2.6)."""

from __future__ import annotations

from typing import Any

from micro_core import ConfigError

__all__ = ["dialled", "joined", "listening"]

_UNSPECIFIED = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}
"""What a peer calls itself when it listens everywhere; from here only this machine can be meant."""


def joined(address: Any) -> str:
    """Return a socket's address as text."""
    if not isinstance(address, tuple):
        return str(address or "")
    host, port = str(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def dialled(address: str) -> tuple[str, int]:
    """Return the host and port to connect to. Raises `ConfigError`."""
    host, ports = _split(address)
    port = _port(ports, address)
    if port == 0:
        raise ConfigError(f"{address!r}: port 0 cannot be dialled")
    return _UNSPECIFIED.get(host, host), port


def listening(address: str) -> tuple[str, range]:
    """Return the host, empty for all interfaces, and the ports to try. Raises `ConfigError`."""
    host, ports = _split(address)
    first, dash, last = ports.partition("-")
    low = _port(first, address)
    high = _port(last, address) if dash else low
    if high < low:
        raise ConfigError(f"{address!r}: the range of ports is empty")
    return ("" if host == "*" else host), range(low, high + 1)


def _split(address: str) -> tuple[str, str]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "[" in host or "]" in host:
        raise ConfigError(f"{address!r} is no address; write host:port, an IPv6 host in brackets")
    if not colon or any(letter <= " " or letter > "~" for letter in host):
        raise ConfigError(f"{address!r} is no address; write host:port, for example 127.0.0.1:8080")
    return host, port


def _port(text: str, address: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65536):
        raise ConfigError(f"{address!r}: the port must be a number from 0 to 65535")
    return int(text)
