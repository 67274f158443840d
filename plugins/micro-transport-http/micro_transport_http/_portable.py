"""Links on anyio's streams, for every loop that anyio knows: one reading and one writing task for each connection."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self, TypeAlias

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, Listener, SocketAttribute, SocketStream, TaskGroup

from ._addresses import joined
from ._link import HIGH_WATER, Accepting, Driver, Link, MakeOwner, Owner, Timer
from ._tls import Handshake, TlsSession, unsealed

__all__ = ["PortableDriver"]

Listening: TypeAlias = Listener[SocketStream]

_LOW_WATER = HIGH_WATER // 4
_CHUNK = 64 * 1024


class PortableWaiter:
    """One value that one task awaits."""

    __slots__ = ("_done", "_event", "_value")

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._done = False
        self._value: Any = None

    def set_result(self, value: Any) -> None:
        self._value = value
        self._done = True
        self._event.set()

    def done(self) -> bool:
        return self._done

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self._event.wait().__await__()
        return self._value


class PortableLink(Link):
    """One connection, as a stream of anyio's."""

    def __init__(self, stream: ByteStream, make_owner: MakeOwner) -> None:
        self._stream = stream
        self._out: list[bytes] = []
        self._size = 0
        self._finish_after: float | None = None
        self._scope = anyio.CancelScope()
        self._work = anyio.Event()
        self._may_read = anyio.Event()
        self._may_read.set()
        self._caught_up = anyio.Event()
        self.gone = anyio.Event()
        self.local = joined(stream.extra(SocketAttribute.local_address, ""))
        self.remote = joined(stream.extra(SocketAttribute.remote_address, ""))
        self.owner = make_owner(self)

    async def run(self) -> None:
        """Carry bytes both ways until one side ends it."""
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
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self.close()

    async def _write(self) -> None:
        try:
            while True:
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
    """One connection under TLS: what is queued is sealed when it leaves, and what comes is opened first."""

    def __init__(
        self, driver: Driver, stream: ByteStream, make_owner: MakeOwner, session: TlsSession, *, is_listener: bool
    ) -> None:
        self._session = session

        def handshake(link: Link) -> Owner:
            return Handshake(driver, link, session, make_owner, is_listener=is_listener)

        super().__init__(stream, handshake)
        if not is_listener:
            self._arrived(b"")

    def _arrived(self, data: bytes) -> None:
        plain = unsealed(self, self._session, data, self._push)
        if plain and self._finish_after is None and not self.lost:
            self.owner.received(plain)
        self._end_if_over()

    def _end_if_over(self) -> None:
        """End it when the peer has said so, and all that came before was read."""
        if self._session.is_over and self._may_read.is_set():
            self.close()

    def resume(self) -> None:
        super().resume()
        self._end_if_over()

    def _push(self) -> None:
        """Have what TLS itself says leave with what is queued."""
        self._out.append(b"")
        self._work.set()

    async def _send(self, data: bytes) -> None:
        sealed = self._session.seal(data)
        if sealed:
            await self._stream.send(sealed)

    async def _say_goodbye(self) -> None:
        await self._stream.send(self._session.bye())
        await super()._say_goodbye()


class PortableTimer:
    """A task that sleeps."""

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self._when = when
        self._callback = callback
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            await anyio.sleep_until(self._when)
        if not self._scope.cancel_called:
            self._callback()

    def cancel(self) -> None:
        self._scope.cancel()


class PortableAccepting(Accepting):
    """Listening sockets and the links they made."""

    def __init__(self, listeners: list[Listening], new_link: Callable[[ByteStream], PortableLink]) -> None:
        self._listeners = listeners
        self._new_link = new_link
        self._links: set[PortableLink] = set()
        self._scope = anyio.CancelScope()
        self._stopped = anyio.Event()
        self.address = joined(listeners[0].extra(SocketAttribute.local_address))

    async def run(self, tasks: TaskGroup) -> None:
        """Accept until stopped; the links live in ``tasks``."""

        async def serve(stream: ByteStream) -> None:
            link = self._new_link(stream)
            self._links.add(link)
            try:
                await link.run()
            finally:
                self._links.discard(link)

        try:
            with self._scope:
                async with anyio.create_task_group() as accepting:
                    for listener in self._listeners:
                        accepting.start_soon(listener.serve, serve, tasks)
        finally:
            with anyio.CancelScope(shield=True):
                for listener in self._listeners:
                    await listener.aclose()
            self._stopped.set()

    async def stop(self) -> None:
        self._scope.cancel()
        await self._stopped.wait()

    async def aclose(self) -> None:
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._stopped.wait()
            await _closed(self._links)


class PortableDriver(Driver):
    """One task group that owns every connection, listener and timer."""

    def __init__(self) -> None:
        self.waiter = PortableWaiter
        self.time = anyio.current_time
        self._tasks = anyio.create_task_group()
        self._links: set[PortableLink] = set()
        self._accepting: list[PortableAccepting] = []

    async def __aenter__(self) -> Self:
        """Open the task group."""
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        # The user's exception is not the tasks': it goes its own way, unwrapped.
        await self._tasks.__aexit__(None, None, None)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        timer = PortableTimer(when, callback)
        if when < math.inf:
            self._tasks.start_soon(timer.run)
        return timer

    async def connect(self, host: str, port: int, make_owner: MakeOwner, tls: TlsSession | None = None) -> Link:
        stream = await anyio.connect_tcp(host, port)
        if tls is None:
            link = PortableLink(stream, make_owner)
        else:
            link = PortableTlsLink(self, stream, make_owner, tls, is_listener=False)
        self._links.add(link)
        self._tasks.start_soon(self._run, link)
        if isinstance(link.owner, Handshake):
            try:
                await link.owner.outcome()
            except BaseException:
                link.close()
                raise
        return link

    async def _run(self, link: PortableLink) -> None:
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def listen(
        self, host: str, port: int, make_owner: MakeOwner, new_tls: Callable[[], TlsSession] | None = None
    ) -> Accepting:
        def new_link(stream: ByteStream) -> PortableLink:
            if new_tls is None:
                return PortableLink(stream, make_owner)
            return PortableTlsLink(self, stream, make_owner, new_tls(), is_listener=True)

        accepting = PortableAccepting(await _listeners(host, port), new_link)
        self._accepting.append(accepting)
        self._tasks.start_soon(accepting.run, self._tasks)
        return accepting

    async def aclose(self) -> None:
        for accepting in self._accepting:
            await accepting.aclose()
        self._accepting.clear()
        with anyio.CancelScope(shield=True):
            await _closed(self._links)


async def _listeners(host: str, port: int) -> list[Listening]:
    if host:
        return list((await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=1024)).listeners)
    every = list((await anyio.create_tcp_listener(local_host="0.0.0.0", local_port=port, backlog=1024)).listeners)
    bound_port = every[0].extra(SocketAttribute.local_port)
    try:
        also = await anyio.create_tcp_listener(local_host="::", local_port=bound_port, backlog=1024)
    except OSError:
        return every  # IPv6 is switched off on this machine.
    return [*also.listeners, *every]


async def _closed(links: set[PortableLink]) -> None:
    there = list(links)
    for link in there:
        link.close()
    for link in there:
        await link.gone.wait()
