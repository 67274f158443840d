"""Connections on anyio's streams, in clear text and under TLS: one reading and one writing task for each."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, SocketAttribute

from .addresses import name_of
from .handshake import Handshake, unsealed
from .keepalive import keep_alive
from .link import HIGH_WATER, Driver, Link, MakeOwner, Owner
from .tls import TlsSession

__all__ = ["PortableLink", "PortableTlsLink"]

_LOW_WATER = HIGH_WATER // 4
_CHUNK = 64 * 1024


class PortableLink(Link):
    """A connection on a stream of anyio's."""

    def __init__(self, stream: ByteStream, make_owner: MakeOwner) -> None:
        self._stream = stream
        self._out: list[bytes] = []
        self._gathered: list[Callable[[], object]] = []
        self._size = 0
        self._finish_after: float | None = None
        self._scope = anyio.CancelScope()
        self._work = anyio.Event()
        self._may_read = anyio.Event()
        self._may_read.set()
        self._caught_up = anyio.Event()
        self.gone = anyio.Event()
        connected = stream.extra(SocketAttribute.raw_socket, None)
        if connected is not None:
            keep_alive(connected)
        self.local = name_of(stream.extra(SocketAttribute.local_address, ""))
        self.remote = name_of(stream.extra(SocketAttribute.remote_address, ""))
        self.owner = make_owner(self)

    async def run(self) -> None:
        """Carry bytes both ways until one side ends the connection."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._read)
                    await self._write()
        finally:
            self._end()
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(self._stream)
            self.gone.set()

    async def _read(self) -> None:
        try:
            while True:
                if not self._may_read.is_set():
                    await self._may_read.wait()
                data = await self._stream.receive(_CHUNK)
                if self._finish_after is None:
                    self._arrived(data)
        except anyio.EndOfStream:
            self.was_cut = self._ends_in_the_middle()
            self.close()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self.was_cut = True
            self.close()

    def _ends_in_the_middle(self) -> bool:
        """Whether an end of file is not the peer's end of the conversation."""
        return False

    async def _write(self) -> None:
        try:
            while True:
                self._gather()
                if self._out:
                    data = b"".join(self._out)
                    self._out.clear()
                    await self._send(data)
                    self._sent(len(data))
                elif self._finish_after is not None:
                    await self._say_goodbye()
                    await anyio.sleep(self._finish_after)
                    self.close()
                    return
                else:
                    self._work = anyio.Event()
                    await self._work.wait()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self.close()

    def _arrived(self, data: bytes) -> None:
        self.owner.received(data)

    async def _send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def _say_goodbye(self) -> None:
        await self._stream.send_eof()

    def _sent(self, size: int) -> None:
        self._size -= size
        if not self.is_writable and self._size <= _LOW_WATER:
            self.is_writable = True
            self._caught_up.set()
            self.owner.writable(True)

    def write(self, data: bytes, *, alone: bool = False) -> None:
        if self.lost:
            return
        self._out.append(data)
        self._size += len(data)
        self._work.set()
        if self.is_writable and self._size > HIGH_WATER:
            self.is_writable = False
            self._caught_up = anyio.Event()
            self.owner.writable(False)

    def before_flush(self, write: Callable[[], object]) -> None:
        self._gathered.append(write)
        self._work.set()

    def _gather(self) -> None:
        """Have everything written that belongs to this turn."""
        gathered, self._gathered = self._gathered, []
        for write in gathered:
            write()

    async def drain(self) -> None:
        await anyio.lowlevel.checkpoint()
        while not (self.is_writable or self.lost):
            await self._caught_up.wait()

    def pause(self) -> None:
        if self._may_read.is_set() and self._finish_after is None:
            self._may_read = anyio.Event()

    def resume(self) -> None:
        self._may_read.set()

    def finish(self, seconds: float) -> None:
        if self._finish_after is None:
            self._finish_after = seconds
            self.resume()
            self._work.set()

    def close(self) -> None:
        self._end()
        self._scope.cancel()

    def _end(self) -> None:
        if not self.lost:
            self.lost = True
            self._caught_up.set()
            self.owner.lost()


class PortableTlsLink(PortableLink):
    """A connection under TLS: what is sent is encrypted when it leaves, what arrives is decrypted first."""

    def __init__(
        self, driver: Driver, stream: ByteStream, make_owner: MakeOwner, session: TlsSession, *, is_listener: bool
    ) -> None:
        self._session = session

        def handshake(link: Link) -> Owner:
            return Handshake(driver, link, session, make_owner, is_listener=is_listener)

        super().__init__(stream, handshake)
        if not is_listener:
            self._arrived(b"")

    def _ends_in_the_middle(self) -> bool:
        return not self._session.is_over

    def _arrived(self, data: bytes) -> None:
        plain = unsealed(self, self._session, data, self._push)
        if plain and self._finish_after is None and not self.lost:
            self.owner.received(plain)
        self._end_if_over()

    def _end_if_over(self) -> None:
        """End it when the peer has sent close_notify, and all that came before was read."""
        if self._session.is_over and self._may_read.is_set():
            self.close()

    def resume(self) -> None:
        super().resume()
        self._end_if_over()

    def _push(self) -> None:
        """Have handshake messages and alerts leave, with what else is queued."""
        self._out.append(b"")
        self._work.set()

    async def _send(self, data: bytes) -> None:
        sealed = self._session.seal(data)
        if sealed:
            await self._stream.send(sealed)

    async def _say_goodbye(self) -> None:
        await self._stream.send(self._session.bye())
        await super()._say_goodbye()
