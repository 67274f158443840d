"""A bound socket for an address, the same on every loop."""

from __future__ import annotations

import socket

import anyio

__all__ = ["bound"]


async def bound(host: str, port: int) -> socket.socket:
    """Return a socket bound to ``host``, ``""`` for all interfaces of both families. Raises `OSError`."""
    if not host:
        return _bound_everywhere(port)
    family, _, _, _, address = (await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    return _bound(family, address)


def _bound_everywhere(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return _bound(socket.AF_INET6, ("::", port), both=True)
        except OSError:
            pass  # IPv6 is switched off on this machine.
    return _bound(socket.AF_INET, ("0.0.0.0", port))


def _bound(family: int, address: tuple[object, ...], *, both: bool = False) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(1024)
    except BaseException:
        listening.close()
        raise
    return listening
