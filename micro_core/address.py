"""The address that a node is registered with (docs/wire.md §1.10)."""

from __future__ import annotations

import ipaddress

from micro_core.errors import ConfigError

__all__ = ["advertised", "has_port", "is_loopback", "reach"]

_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses of documentation networks: connecting a UDP socket to one sends nothing, and tells the way out."""


def advertised(bound: str, advertise: str) -> str:
    """Return the literal ``host:port`` that others shall use.

    ``advertise`` (``host`` or ``host:port``) goes before ``bound``; an unspecified host is replaced by the address of
    the interface that leads out of this machine, the loopback one where there is none. Raises `ConfigError`.
    """
    bound_host, _, port = bound.rpartition(":")
    if advertise:
        host, _, own_port = advertise.rpartition(":") if has_port(advertise) else (advertise, "", "")
        return f"{_literal(host, advertise)}:{own_port or port}"
    host = bound_host.strip("[]")
    if host in ("", "0.0.0.0", "::"):
        return f"{_way_out()}:{port}"
    return f"{_literal(host, bound)}:{port}"


def reach(bound: str) -> str:
    """Say who can reach an address."""
    host = bound.rpartition(":")[0].strip("[]")
    if host in ("", "0.0.0.0", "::"):
        return "whoever reaches any interface of this machine"
    return "this machine only" if is_loopback(bound) else f"whoever reaches {host}"


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches ``host:port``; of names that holds for ``localhost`` alone."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def has_port(text: str) -> bool:
    """Return whether an address, ``host`` or ``host:port``, says a port."""
    return text.endswith("]") is False and (text.count(":") == 1 or text.startswith("["))


def _literal(host: str, shown: str) -> str:
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError as error:
        raise ConfigError(f"address {shown!r}: a node's host is a literal IP address, such as 10.0.0.5:8080") from error
    return f"[{address}]" if address.version == 6 else str(address)


def _way_out() -> str:
    import socket

    for elsewhere in _ELSEWHERE:
        family = socket.AF_INET6 if ":" in elsewhere else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                host = probe.getsockname()[0]
        except OSError:
            continue
        return f"[{host}]" if family == socket.AF_INET6 else str(host)
    return "127.0.0.1"
