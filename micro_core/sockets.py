"""A socket that listens on an address, by one rule for every part and every event loop."""

from __future__ import annotations

import os
import socket

import anyio

from micro_core.address import EVERYWHERE

__all__ = ["listening_socket"]

_BACKLOG = 1024


async def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on ``host`` and ``port``, 0 for any that is free.

    An empty host, ``*`` and ``::`` are all interfaces of both families: one socket, on which callers by IPv4 have
    addresses mapped into IPv6, which `join_address` writes as IPv4. Where this machine has no IPv6 it is IPv4 alone,
    as for ``0.0.0.0``. Of the addresses of a name the first counts. Raises `OSError`.
    """
    if host in EVERYWHERE and host != "0.0.0.0":
        if socket.has_dualstack_ipv6():
            try:
                return _bound(socket.AF_INET6, ("::", port), both=True)
            except OSError:
                if not _lacks_ipv6():
                    raise
        host = "0.0.0.0"
    family, _, _, _, address = (await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    return _bound(family, address)


def _lacks_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return True
    return False


def _bound(family: int, address: tuple[object, ...], *, both: bool = False) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows it would let others take the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        listening.setblocking(False)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening
