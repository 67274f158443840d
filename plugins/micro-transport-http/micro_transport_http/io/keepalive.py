"""TCP's own ways to find that a peer is gone: nothing else ends a connection on which nothing is sent."""

from __future__ import annotations

import socket
import sys
from typing import Protocol

__all__ = ["GONE_SECONDS", "keep_alive"]

GONE_SECONDS = 30
"""How long a peer's machine may be silent: no answer to what was sent, nor to TCP's question whether it is there."""
_IDLE_SECONDS = 10
_INTERVAL_SECONDS = 5
_PROBES = (GONE_SECONDS - _IDLE_SECONDS) // _INTERVAL_SECONDS


class _Socket(Protocol):
    """A socket, or what an event loop shows of one."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def keep_alive(connected: _Socket) -> None:
    """Have the operating system end a connection whose peer is gone, `GONE_SECONDS` after it was last heard of.

    That the peer takes nothing counts too: on Linux, one whose window stays shut for as long (TCP_USER_TIMEOUT).
    A system that lacks an option goes without it.
    """
    for level, option, value in _OPTIONS:
        try:
            connected.setsockopt(level, option, value)
        except OSError:
            continue  # a connection that is gone by now, or no TCP


def _options() -> list[tuple[int, int, int]]:
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    wanted = [
        (idle, _IDLE_SECONDS),
        ("TCP_KEEPINTVL", _INTERVAL_SECONDS),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", GONE_SECONDS * 1000),
    ]
    named = [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in wanted if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *named]


_OPTIONS = _options()
