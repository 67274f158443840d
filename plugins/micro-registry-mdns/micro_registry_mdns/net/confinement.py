"""Which interfaces a multicast socket hears. Linux alone can confine one; elsewhere it hears what the machine hears."""

from __future__ import annotations

import logging
import socket
import sys

__all__ = ["confine_to_loopback", "confine_to_memberships"]

_log = logging.getLogger("micro.registry.mdns")

_ON_LINUX = bool(sys.platform == "linux")  # as a value, so that type checkers read both branches
_SO_BINDTODEVICE: int = getattr(socket, "SO_BINDTODEVICE", 0)
_IP_MULTICAST_ALL = 49  # <linux/in.h>, unnamed by the socket module; elsewhere 49 is another option


def confine_to_memberships(sock: socket.socket) -> bool:
    """Let a socket hear only the interfaces whose group it joined. Returns whether that could be done."""
    return _ON_LINUX and _set(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)


def confine_to_loopback(sock: socket.socket) -> bool:
    """Let a socket hear and speak on loopback alone. Returns whether that could be done."""
    return _ON_LINUX and _set(sock, socket.SOL_SOCKET, _SO_BINDTODEVICE, b"lo\0")


def _set(sock: socket.socket, level: int, option: int, value: int | bytes) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError as error:  # a kernel before 5.7 asks for a privilege
        _log.debug("a multicast socket cannot be confined: %s", error)
        return False
    return True
