"""Calls to one node: each takes a connection from the pool, a new one where none has room."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from micro_core import Channel, Closed, ConnectFailed, Head, Headers, Message, Stream
from micro_transport_http.io.link import Driver, Waiter

from .answers import too_late
from .connecting import ClientOptions, Connector
from .http2 import Http2Client
from .pool import Pool
from .pooled import PooledConnection

__all__ = ["GO_REST_SECONDS", "HttpChannel"]

GO_REST_SECONDS = 0.01
"""How long a connection to a Go peer rests between two calls. Go Micro's servers from v4.10 on answer first and forget
the call a moment later; a request that comes in between is never answered (docs/wire.md §3.2)."""

_FRESH_SECONDS = 0.001
"""An idle time in which it need not be looked whether the peer has closed meanwhile."""
_TURNS = 3
"""Turns of the loop in which that is noticed: the socket is polled, its task is woken, and reads."""


Dialled = TypeVar("Dialled", bound=PooledConnection)


class HttpChannel(Channel):
    """The client's view of one address."""

    def __init__(
        self,
        connector: Connector,
        options: ClientOptions,
        *,
        rest: float,
        may_share: Callable[[float], bool],
        refused_sharing: Callable[[float], None],
        closed: Callable[[HttpChannel], None],
    ) -> None:
        self._connector = connector
        self._address = connector.address
        self._options = options
        self._rest = rest
        self._may_share = may_share
        self._refused_sharing = refused_sharing
        self._on_closed = closed
        self._pool: Pool | None = None
        self._dialling: list[Waiter] | None = None
        """Calls that wait for the connection which another is making, for all of them."""
        self._dials: set[anyio.CancelScope] = set()
        self._closed = False

    async def call(self, head: Head, id: int, headers: Headers, body: bytes, deadline: float) -> Message:
        pool = self._pool
        connection = None if pool is None else pool.current
        if connection is None or not (connection.is_in_use or await self._is_alive(connection)):
            connection = await self._connection(deadline)
        return await connection.call(head, b"%d" % id, headers, body, deadline)

    async def open_stream(self, deadline: float) -> Stream:
        self._open()
        if self._connector.offers_h2:
            connection = await self._pooled(deadline)
            if isinstance(connection, Http2Client):
                return connection.open_stream()
            if connection is not None:
                connection.release()
        return await self._connector.stream(deadline)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._on_closed(self)
        for dial in self._dials:
            dial.cancel()
        if self._pool is not None:
            self._pool.close()

    def _open(self) -> Driver:
        if self._closed:
            raise Closed(f"the channel to {self._address} is closed")
        return self._connector.driver()

    # ------------------------------------------------------------------------------------------ which connection

    async def _connection(self, deadline: float) -> PooledConnection:
        """Return a connection with room for a call that begins at once."""
        connection = await self._pooled(deadline)
        return connection if connection is not None else await self._dial_single(deadline)

    async def _pooled(self, deadline: float) -> PooledConnection | None:
        """Return a connection of the pool, with a new one in it if need be; none where a call needs one to itself."""
        driver, pool = self._open(), self._the_pool()
        while True:
            connection = pool.assign()
            if connection is None:
                if not (pool.shares and self._may_share(driver.time())):
                    return None
                if self._dialling is not None:
                    await self._wait_for_dialling(self._dialling, deadline)
                elif pool.is_at_its_bound:
                    connection = await pool.wait(deadline)
                else:
                    await self._dial_shared(deadline)
                self._check_node_stays()
            if connection is not None and await self._is_alive(connection):
                return connection

    def _the_pool(self) -> Pool:
        if self._pool is None:
            options = self._options
            self._pool = Pool(
                self._connector.driver(), self._address, options.pool_size, options.pool_ttl, rest=self._rest
            )
        return self._pool

    async def _is_alive(self, connection: PooledConnection) -> bool:
        """Give the loop some turns, in which an idle connection that its peer has closed meanwhile is noticed.

        Returns whether the connection may be used; others may have taken all its room meanwhile.
        """
        is_stale = self._connector.driver().time() - connection.idle_since > _FRESH_SECONDS
        if is_stale and (connection.is_idle or not connection.is_shared):
            try:
                for _ in range(_TURNS):
                    await anyio.lowlevel.checkpoint()
            except BaseException:
                connection.release()
                raise
        return not (connection.link.lost or (connection.is_shared and connection.is_full))

    def _check_node_stays(self) -> None:
        if self._closed:
            raise ConnectFailed(f"{self._address} left while a call waited for a connection to it", node=self._address)

    # ------------------------------------------------------------------------------------------ new ones

    async def _dial_single(self, deadline: float) -> PooledConnection:
        """Return a new connection or, to a peer that takes none any more, one that has not rested."""
        pool = self._the_pool()
        try:
            connection = await self._unless_closed(self._connector.single(deadline))
        except ConnectFailed:
            unrested = pool.assign(rested=False)
            if unrested is None:
                raise
            return unrested
        pool.add(connection)
        return connection

    async def _dial_shared(self, deadline: float) -> None:
        """Put a connection for many calls into the pool, or the single one that the peer insists on."""
        waiting = self._dialling = []
        failed: ConnectFailed | None = None
        try:
            connection = await self._unless_closed(self._connector.shared(deadline))
            if not connection.is_shared:
                self._refused_sharing(self._connector.driver().time())
            self._the_pool().add(connection)
        except ConnectFailed as error:
            failed = ConnectFailed(error.detail, node=error.node)  # before it is told which call it was
            raise
        finally:
            self._dialling = None
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(failed)

    async def _unless_closed(self, dialled: Coroutine[Any, Any, Dialled]) -> Dialled:
        """Return what was dialled. Raises `ConnectFailed` as soon as the channel is closed."""
        connection: Dialled | None = None
        with anyio.CancelScope() as dial:
            self._dials.add(dial)
            try:
                connection = await dialled
            finally:
                self._dials.discard(dial)
        if self._closed and connection is not None:
            connection.link.close()
        self._check_node_stays()
        assert connection is not None
        return connection

    async def _wait_for_dialling(self, waiting: list[Waiter], deadline: float) -> None:
        """Wait until another call has made a connection. Raises what it was told."""
        waiter = self._connector.driver().waiter()
        waiting.append(waiter)
        with anyio.CancelScope(deadline=deadline) as scope:
            failed: ConnectFailed | None = await waiter
            if failed is not None:
                raise ConnectFailed(failed.detail, node=failed.node) from failed
        if scope.cancelled_caught:
            raise too_late(self._address)

    def __repr__(self) -> str:
        pool = self._pool
        connections, calls = (0, 0) if pool is None else (len(pool), pool.in_flight)
        state = "closed" if self._closed else "open"
        return f"<HttpChannel {self._address} {state}, {connections} connections, {calls} calls>"
