"""The driver for every loop that anyio knows: its waiters, timers and listening sockets."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, TaskGroup

from micro_core.sockets import listening_socket
from micro_core.tasks import Hosted

from .addresses import name_of
from .handshake import Handshake
from .link import Accepting, Driver, Link, MakeOwner, Timer
from .portable_link import PortableLink, PortableTlsLink
from .tls import TlsSession

__all__ = ["PortableDriver"]


class PortableWaiter:
    """A value that one task awaits."""

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
    """A listening socket and the links it made."""

    def __init__(self, listener: SocketListener, new_link: Callable[[ByteStream], PortableLink]) -> None:
        self._listener = listener
        self._new_link = new_link
        self._links: set[PortableLink] = set()
        self._scope = anyio.CancelScope()
        self._stopped = anyio.Event()
        self.address = name_of(listener.extra(SocketAttribute.local_address))

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
                await self._listener.serve(serve, tasks)
        finally:
            with anyio.CancelScope(shield=True):
                await self._listener.aclose()
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
        self._tasks: TaskGroup
        self._host = Hosted(anyio.create_task_group())
        self._links: set[PortableLink] = set()
        self._accepting: list[PortableAccepting] = []

    async def __aenter__(self) -> Self:
        """Open the task group."""
        self._tasks = await self._host.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tasks.cancel_scope.cancel()
        await self._host.aclose()

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

        listener = await SocketListener.from_socket(await listening_socket(host, port))
        accepting = PortableAccepting(listener, new_link)
        self._accepting.append(accepting)
        self._tasks.start_soon(accepting.run, self._tasks)
        return accepting

    async def aclose(self) -> None:
        for accepting in self._accepting:
            await accepting.aclose()
        self._accepting.clear()
        with anyio.CancelScope(shield=True):
            await _closed(self._links)


async def _closed(links: set[PortableLink]) -> None:
    there = list(links)
    for link in there:
        link.close()
    for link in there:
        await link.gone.wait()
