"""The UDP sockets of docs/wire.md §11.1: one that hears the group on port 5353, and one per interface to ask from."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from micro_core import RegistryError
from micro_registry_mdns.net.confinement import confine_to_memberships
from micro_registry_mdns.net.pacing import Address, PacedSender

__all__ = ["GROUP", "PORT", "Sockets"]

_log = logging.getLogger("micro.registry.mdns")

GROUP, PORT = "224.0.0.251", 5353
_RECEIVE_BUFFER = 4 * 1024 * 1024
_MAX_DATAGRAM = 65_536
_READS_PER_TURN = 128

Received = Callable[[bytes, Address], None]


class Sockets:
    """Opened by the thread that uses them. ``heard`` gets what comes to the group, ``answered`` what comes to us."""

    def __init__(self, interfaces: Sequence[str], heard: Received, answered: Received) -> None:
        self.interfaces: tuple[str, ...] = ()
        """The addresses of the interfaces that can be spoken on."""
        self._listening: socket.socket | None = None
        self._asking: dict[str, socket.socket] = {}
        self._handlers: dict[socket.socket, Received] = {}
        self._why_deaf = ""
        self._loop = asyncio.get_running_loop()
        try:
            self._open(interfaces, heard, answered)
        except BaseException:
            self.close()
            raise

    @property
    def is_closed(self) -> bool:
        """Whether nothing is heard any more."""
        return not self._handlers

    @property
    def why_deaf(self) -> str:
        """Why port 5353 cannot be bound, empty where it can."""
        return self._why_deaf

    def ask(self, packet: bytes, paced: PacedSender) -> None:
        """Send a question on every interface, from a port of its own (never from 5353, docs/wire.md §1.9)."""
        for sock in self._asking.values():
            paced.send(sock, packet, (GROUP, PORT))

    def answer(self, packet: bytes, asker: Address, paced: PacedSender) -> None:
        """Send an answer to who asked."""
        if self._listening is not None:
            paced.send(self._listening, packet, asker)

    def announce(self, packet: bytes, paced: PacedSender, *, loopback_only: bool) -> None:
        """Send to the group, on every interface or on loopback alone."""
        if self._listening is None:
            return
        for interface in self.interfaces:
            if interface.startswith("127.") or not loopback_only:
                paced.send(self._listening, packet, (GROUP, PORT), interface)

    def drain(self) -> None:
        """Handle at once what has arrived and not been handled yet."""
        for sock, handler in self._handlers.items():
            _receive(sock, handler)

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._handlers:
            self._loop.remove_reader(sock)
            sock.close()
        self._handlers.clear()
        self._asking.clear()
        self._listening = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sockets on {', '.join(self.interfaces) or 'no interface'}>"

    def _open(self, interfaces: Sequence[str], heard: Received, answered: Received) -> None:
        failed = {}
        for interface in interfaces:
            try:
                self._asking[interface] = self._handle(_asking_socket(interface), answered)
            except OSError as error:
                failed[interface] = error.strerror
        self.interfaces = tuple(self._asking)
        if not self.interfaces:
            raise RegistryError(
                f"multicast DNS has no interface to speak on (tried: {failed or 'none has an IPv4 address'}); "
                "name nodes outright with the static registry (static://?<service>=<host>:<port>), or set interface="
            )
        try:
            self._listening = self._handle(_listening_socket(self.interfaces), heard)
        except OSError as error:
            self._why_deaf = error.strerror or str(error)

    def _handle(self, sock: socket.socket, handler: Received) -> socket.socket:
        self._handlers[sock] = handler
        self._loop.add_reader(sock, _receive, sock, handler)
        return sock


def _asking_socket(interface: str) -> socket.socket:
    sock = _socket()
    try:
        sock.bind((interface, 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
    except OSError:
        sock.close()
        raise
    return sock


def _listening_socket(interfaces: Sequence[str]) -> socket.socket:
    sock = _socket()
    try:
        # Without REUSEADDR, or with REUSEPORT in its place, Go on the same machine goes deaf (docs/wire.md §11.1).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((GROUP, PORT))
        except OSError:
            if hasattr(socket, "SO_REUSEPORT"):  # BSD and macOS want both
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("0.0.0.0", PORT))
        confine_to_memberships(sock)
        joined = [interface for interface in interfaces if _join(sock, interface)]
        if not joined:
            raise OSError(0, f"the group {GROUP} cannot be joined on any of {', '.join(interfaces)}")
    except OSError:
        sock.close()
        raise
    return sock


def _join(sock: socket.socket, interface: str) -> bool:
    membership = socket.inet_aton(GROUP) + socket.inet_aton(interface)
    try:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError as error:
        _log.warning("multicast DNS is not heard on %s: %s", interface, error.strerror)
        return False
    return True


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    return sock


def _receive(sock: socket.socket, handler: Received) -> None:
    for _ in range(_READS_PER_TURN):
        try:
            packet, address = sock.recvfrom(_MAX_DATAGRAM)
        except OSError:
            return  # nothing there, or an ICMP error for something sent before
        handler(packet, address)
