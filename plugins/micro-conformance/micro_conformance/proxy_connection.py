"""One connection through the proxy: two sockets, and what is done to the bytes on each way between them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

__all__ = ["Address", "Connection", "Wire", "Wires"]

CHUNK = 64 * 1024
QUEUED = 64
"""Chunks of one way that are on their way at most: what a delayed wire holds; then senders feel it."""
AT_ONCE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)
"""A linger of no time, with which closing resets."""
PIECES_A_SECOND = 50
"""Into how many pieces a slow wire divides what it passes in a second."""


class Address(NamedTuple):
    """A socket's address with its family."""

    family: int
    name: Any


@dataclass(frozen=True, kw_only=True)
class Wire:
    """What one way does to the bytes on it. Bytes are counted on each connection, from when the wire was assigned."""

    delay: float = 0.0
    """Seconds that every byte takes longer; what follows is not held up more than that."""
    rate: float = math.inf
    """Bytes that pass in a second."""
    truncate: int | None = None
    """So many bytes pass; then the connection is closed in order, both ways."""
    flip: int | None = None
    """The one bit that arrives wrong: bit ``flip % 8``, from the lowest, of byte ``flip // 8``."""

    def __post_init__(self) -> None:
        if not self.delay >= 0 or not self.rate > 0 or (self.truncate or 0) < 0 or (self.flip or 0) < 0:
            raise ValueError(f"{self} is no wire: delay, truncate and flip are from 0, rate is more than 0")

    def spoiled(self, chunk: bytes, passed: int) -> bytes:
        """Return a chunk as it arrives after ``passed`` bytes."""
        if self.flip is not None and 0 <= self.flip // 8 - passed < len(chunk):
            place = self.flip // 8 - passed
            chunk = chunk[:place] + bytes([chunk[place] ^ 1 << self.flip % 8]) + chunk[place + 1 :]
        return chunk if self.truncate is None else chunk[: max(0, self.truncate - passed)]

    def is_over(self, passed: int) -> bool:
        """Say whether nothing passes any more after ``passed`` bytes."""
        return self.truncate is not None and passed >= self.truncate


@dataclass
class Wires:
    """Both ways of a proxy as they are now."""

    upstream: Wire = field(default_factory=Wire)
    downstream: Wire = field(default_factory=Wire)


class Connection:
    """A client's socket, and the one to the server that is opened for it."""

    def __init__(self, client: socket.socket, target: Address, wires: Wires) -> None:
        self.flowing = asyncio.Event()
        """Bytes pass while it is set; until it is first set the server is not connected to."""
        self.reset = False
        """Whether `close` resets both sockets, or closes them in order."""
        self._client = client
        self._server = socket.socket(target.family, socket.SOCK_STREAM)
        self._target = target
        self._wires = wires
        self._shut: set[socket.socket] = set()
        for end in (self._client, self._server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Pass bytes both ways until both have ended, or one end is reset, which resets the other."""
        try:
            await self.flowing.wait()
            await asyncio.get_running_loop().sock_connect(self._server, self._target.name)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass("upstream", self._client, self._server))
                ways.create_task(self._pass("downstream", self._server, self._client))
        except* OSError:
            self.reset = True

    def close(self) -> None:
        """Let go of both sockets."""
        for end in (self._client, self._server):
            if self.reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            end.close()

    def half_close(self, way: Literal["upstream", "downstream"]) -> None:
        """End one way: what is still sent on it is read and dropped."""
        self._end(self._server if way == "upstream" else self._client)

    async def _pass(self, way: Literal["upstream", "downstream"], source: socket.socket, sink: socket.socket) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(way, source, queue))
            tasks.create_task(self._write(way, queue, sink))

    async def _read(self, way: str, source: socket.socket, queue: asyncio.Queue[tuple[float, bytes]]) -> None:
        loop = asyncio.get_running_loop()
        chunk = b"something"
        while chunk:
            chunk = await loop.sock_recv(source, CHUNK)
            await queue.put((loop.time() + getattr(self._wires, way).delay, chunk))

    async def _write(self, way: str, queue: asyncio.Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        wire, passed = None, 0
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await self.flowing.wait()
            if wire is not (current := getattr(self._wires, way)):
                wire, passed = current, 0
            if not chunk:
                return self._end(sink)
            for piece in pieces(wire.spoiled(chunk, passed), wire.rate):
                await self.flowing.wait()
                if sink not in self._shut:
                    await loop.sock_sendall(sink, piece)
                await asyncio.sleep(len(piece) / wire.rate)
            passed += len(chunk)
            if wire.is_over(passed):
                self._end(self._client)
                self._end(self._server)

    def _end(self, sink: socket.socket) -> None:
        if sink in self._shut:
            return
        self._shut.add(sink)
        with contextlib.suppress(OSError):  # the peer has gone, or was never there
            sink.shutdown(socket.SHUT_WR)


def pieces(chunk: bytes, rate: float) -> list[bytes]:
    """Divide what passes at ``rate`` bytes a second, so that it trickles."""
    size = len(chunk) if rate == math.inf else max(1, int(rate / PIECES_A_SECOND))
    return [chunk[start : start + size] for start in range(0, len(chunk), size or 1)]
