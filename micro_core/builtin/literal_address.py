"""Addresses of nodes: a literal IP address and a port, so that nobody has to ask DNS before a call."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["join_address", "split_address"]


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``10.0.0.5:8080`` or ``[fd00::5]:8080``, the host without brackets.

    Raises ValueError, whose text says what is valid, for anything else.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
            raise ValueError(text)
        if bracketed:
            IPv6Address(host[1:-1])
        else:
            IPv4Address(host)
    except ValueError as error:
        valid = "a literal IP address and a port, such as 10.0.0.5:8080 or [fd00::5]:8080"
        raise ValueError(f"address {text!r} is not valid; valid is {valid}") from error
    return (host[1:-1] if bracketed else host), int(port)


def join_address(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ip_address(host).version == 6 else f"{host}:{port}"
