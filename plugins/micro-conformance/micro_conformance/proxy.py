"""A TCP proxy that stands before a server and fails as networks and servers do: on real sockets, when told to.

It runs in a thread of its own, so that tests on any event loop, synchronous ones and other processes can use it. Each
method returns when what it says holds.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal, Self

from micro_conformance.proxy_connection import Address, Connection, Wire, Wires

__all__ = ["TcpProxy", "Wire"]

BACKLOG = 128
PATIENCE = 10.0
"""Seconds that any of its methods may take: they wait for the proxy's own thread alone, never for a peer."""


class TcpProxy:
    """Passes what comes to `address` on to ``target``, until it is told otherwise. A context manager.

    ::

        with TcpProxy("127.0.0.1:2379") as proxy:
            client = connect(proxy.address)
            proxy.cut()                            # ends the connections there are; new ones pass
            proxy.refuse()                         # new connections are refused; those there are go on
            proxy.hang()                           # everything is accepted, and nothing comes through
            proxy.silence()                        # half-open: those there are fall silent, new ones pass
            proxy.retarget("127.0.0.1:2380")       # new ones go to another server
            proxy.downstream = Wire(delay=0.04)    # what goes to the clients takes 40 ms longer
            proxy.restore()                        # all is well again

    *Upstream* is the way to the server, *downstream* the way to the clients. The system acknowledges what the proxy has
    read, as it does for a process that is frozen: TCP's own keepalive finds such a peer alive.

    ``target`` is ``host:port``; the proxy listens on ``host``, on a port that it keeps until it is left.
    """

    def __init__(self, target: str, *, host: str = "127.0.0.1") -> None:
        self.target = target
        self.accepted = 0
        """How many connections it has taken since it was entered."""
        self._host = host
        self._wires = Wires()
        self._silent = False
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._listening = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        """Listen. Raises `OSError` where the target's host has no address, or ``host`` is not this machine's."""
        if self._loop is not None:
            raise RuntimeError(f"{self!r} runs already")
        self._target = resolved(self.target)
        self._socket = bound(resolved(f"{self._host}:0"))
        self._bound = Address(self._socket.family, self._socket.getsockname())
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy of {self.target}", daemon=True)
        self._thread.start()
        self._do(self._restore())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Reset the connections there are, and let go of the port and the thread."""
        assert self._loop is not None
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    @property
    def address(self) -> str:
        """Where clients connect to: ``host:port``, an IPv6 host in brackets."""
        self._check()
        host, port = self._bound.name[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    # What becomes of connections

    def restore(self) -> None:
        """Let everything pass again, what waited in silent connections included."""
        self._do(self._restore())

    def refuse(self) -> None:
        """Have the system refuse new connections; those there are go on."""
        self._do(self._refuse())

    def cut(self, *, reset: bool = True) -> None:
        """End the connections there are at both ends: by a reset, or in order. New ones pass as before."""
        self._do(self._cut(reset))

    def down(self) -> None:
        """Refuse and cut: as if the server had been killed."""
        self._do(self._down())

    def hang(self) -> None:
        """Let nothing through: the connections there are fall silent, and new ones are accepted and hear nothing."""
        self._do(self._silence(new_ones_too=True))

    def silence(self) -> None:
        """Let the connections there are fall silent, as half-open ones are, while new ones pass."""
        self._do(self._silence(new_ones_too=False))

    def half_close(self, way: Literal["upstream", "downstream"] = "downstream") -> None:
        """End one way of the connections there are: its readers see the end, while the other way goes on."""
        self._do(self._half_close(way))

    def retarget(self, target: str) -> None:
        """Pass new connections on to another server, as a virtual address does; those there are go on.

        Raises `OSError` where ``target`` has no address.
        """
        self.target, self._target = target, resolved(target)

    # What becomes of bytes

    @property
    def upstream(self) -> Wire:
        """The way to the server. Assigning one holds for what is read from then on, on every connection."""
        return self._wires.upstream

    @upstream.setter
    def upstream(self, wire: Wire) -> None:
        self._wires.upstream = wire

    @property
    def downstream(self) -> Wire:
        """The way to the clients. Assigning one holds for what is read from then on, on every connection."""
        return self._wires.downstream

    @downstream.setter
    def downstream(self, wire: Wire) -> None:
        self._wires.downstream = wire

    # In the proxy's thread

    def _check(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the proxy does not run: use it in a with block")
        return self._loop

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            loop = self._check()
        except RuntimeError:
            work.close()
            raise
        asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    async def _restore(self) -> None:
        self._wires.upstream = self._wires.downstream = Wire()
        self._silent = False
        for connection in self._connections.values():
            connection.flowing.set()
        if not self._listening:
            self._listening = True
            may_be_shared(self._socket, True)  # which its connections inherit: with them it can be bound anew
            self._socket.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:  # who connected has gone again
            return
        self.accepted += 1
        connection = Connection(client, self._target, self._wires)
        if not self._silent:
            connection.flowing.set()
        task = asyncio.get_running_loop().create_task(connection.run())
        self._connections[task] = connection
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._connections.pop(task).close()

    async def _refuse(self) -> None:
        """Bind the port anew without listening: it stays ours, and the system refuses who connects."""
        if self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = bound(self._bound)
            may_be_shared(self._socket, False)

    async def _cut(self, reset: bool) -> None:
        for connection in self._connections.values():
            connection.reset = reset
        await ended(*self._connections)

    async def _down(self) -> None:
        await self._refuse()
        await self._cut(reset=True)

    async def _silence(self, *, new_ones_too: bool) -> None:
        self._silent = new_ones_too
        for connection in self._connections.values():
            connection.flowing.clear()

    async def _half_close(self, way: Literal["upstream", "downstream"]) -> None:
        for connection in self._connections.values():
            connection.half_close(way)

    async def _close(self) -> None:
        await self._down()
        self._socket.close()

    def __repr__(self) -> str:
        if self._loop is None:
            return f"<TcpProxy before {self.target}, not running>"
        does = "refusing" if not self._listening else "hanging" if self._silent else "passing"
        return f"<TcpProxy {self.address} before {self.target}, {does}, {self.connections} connections>"


def resolved(address: str) -> Address:
    """Return the first socket address of ``host:port``; an IPv6 host stands in brackets. Raises `OSError`."""
    host, _, port = address.rpartition(":")
    family, _, _, _, name = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
    return Address(family, name)


def bound(address: Address) -> socket.socket:
    """Return a socket that is bound and does not listen."""
    made = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        may_be_shared(made, True)
        made.setblocking(False)
        made.bind(address.name)
    except BaseException:
        made.close()
        raise
    return made


def may_be_shared(one: socket.socket, yes: bool) -> None:
    """Say whether another socket may be bound to its port while it does not listen."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, yes)


async def ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have let go of everything."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
