"""Datagrams sent in bursts that a receiver's buffer can hold, in place of all at once."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque

__all__ = ["Address", "PacedSender"]

_log = logging.getLogger("micro.registry.mdns")

_BURST, _PAUSE = 40, 0.003  # what Go's receive buffer keeps up with (docs/wire.md §11.1)
_MAX_WAITING = 8 * 1024 * 1024  # bytes

Address = tuple[str, int]


class PacedSender:
    """Sends datagrams in bursts that a receiver's buffer can hold."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[socket.socket, bytes, Address, str]] = deque()
        self._size = 0
        self._left = _BURST
        self._refill: asyncio.TimerHandle | None = None
        self._silent: set[str] = set()

    def send(self, sock: socket.socket, packet: bytes, address: Address, interface: str = "") -> None:
        """Send now, or after what is waiting; multicast leaves through ``interface`` where one is named."""
        if self._size + len(packet) > _MAX_WAITING:
            _log.warning("too many datagrams are waiting; one to %s is dropped", address[0])
            return
        self._size += len(packet)
        self._waiting.append((sock, packet, address, interface))
        self._flush()

    def close(self) -> None:
        """Send what is waiting at once."""
        self._left = len(self._waiting)
        self._flush()
        if self._refill is not None:
            self._refill.cancel()

    def _flush(self) -> None:
        if self._refill is None:
            self._refill = self._loop.call_later(_PAUSE, self._next_burst)
        while self._waiting and self._left:
            self._left -= 1
            sock, packet, address, interface = self._waiting.popleft()
            self._size -= len(packet)
            self._send(sock, packet, address, interface)

    def _next_burst(self) -> None:
        self._refill, self._left = None, _BURST
        if self._waiting:
            self._flush()

    def _send(self, sock: socket.socket, packet: bytes, address: Address, interface: str) -> None:
        try:
            if interface:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
            sock.sendto(packet, address)
        except OSError as error:
            where = interface or address[0]
            if where not in self._silent:  # one line for each place, not for each datagram
                self._silent.add(where)
                _log.warning("multicast DNS cannot send to %s through %s: %s", address[0], where, error.strerror)
