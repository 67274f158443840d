"""The connections to one address: which of them the next call takes, how many there are, and how long they are kept.

Each decision is plain code that returns at once; the channel does what was decided. The life of a connection:

    dialled ── add ──▶ in use ◀── assign ──  with room  ── idle for `ttl` ──▶ finished
                         │  └──── on_room ────▶  │
                         └──────── on_end ───────┴──▶ forgotten
"""

from __future__ import annotations

from collections import deque

import anyio

from micro_transport_http.io.link import Driver, Timer, Waiter

from .answers import too_late
from .pooled import PooledConnection

__all__ = ["Pool"]

_TICK_SECONDS = 0.01
"""The least time between two looks at what has expired."""


class _Turn:
    """A call that waits for room."""

    __slots__ = ("connection", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter
        self.connection: PooledConnection | None = None


class Pool:
    """Connections to one address.

    At most ``size`` of those that carry one call at a time are kept when they are idle, and there are never more than
    ``size`` of those that carry many; whichever is idle for ``ttl`` seconds is closed. A connection is not used again
    within ``rest`` seconds after a call, as Go peers need it (docs/wire.md §3.2). With a ``size`` or ``ttl`` of 0
    nothing is kept, and nothing shared.
    """

    def __init__(self, driver: Driver, address: str, size: int, ttl: float, rest: float) -> None:
        self._driver = driver
        self._address = address
        self._size = size if ttl > 0 else 0
        self._ttl = ttl
        self._rest = rest
        self._connections: dict[PooledConnection, None] = {}
        self._with_room: dict[PooledConnection, None] = {}
        """The one that a call left last stands last, and is taken first: the others fall idle."""
        self._queue: deque[_Turn] = deque()
        self._timer: Timer | None = None
        self.current: PooledConnection | None = None
        """The connection for many calls that was assigned last, the short way for most calls; none while some wait."""

    @property
    def shares(self) -> bool:
        """Whether connections that carry many calls may be made."""
        return self._size > 0

    @property
    def is_at_its_bound(self) -> bool:
        """Whether there are as many connections that carry many calls as there may be."""
        return sum(connection.is_shared for connection in self._connections) >= self._size

    @property
    def in_flight(self) -> int:
        """How many calls and streams are under way."""
        return sum(connection.in_flight for connection in self._connections)

    def add(self, connection: PooledConnection) -> None:
        """Take a new connection in; one that was lost meanwhile is passed over."""
        if connection.link.lost:
            return
        connection.on_room, connection.on_end = self._has_room, self._forget
        self._connections[connection] = None
        if not connection.is_full:
            self._has_room(connection)
        if self._timer is None and self._size > 0:
            self._timer = self._driver.call_at(self._driver.time() + self._ttl, self._expire)

    def assign(self, *, rested: bool = True) -> PooledConnection | None:
        """Return the connection that the next call takes, none where it needs a new one, or has to wait.

        ``rested`` is false where no other connection can be had.
        """
        now = self._driver.time()
        for connection in reversed(tuple(self._with_room)):
            if connection.is_full:
                del self._with_room[connection]
            elif connection.is_idle and now - connection.idle_since > self._ttl:
                self._finish(connection)
            elif connection.is_shared:
                if not self._queue:
                    self.current = connection
                    return connection
            elif not (rested and self._rest and self._is_resting(connection, now)):
                del self._with_room[connection]
                connection.take()
                return connection
        return None

    def _is_resting(self, connection: PooledConnection, now: float) -> bool:
        """Return whether a connection has to rest; where there are enough, one rests no longer."""
        return now - connection.idle_since < self._rest and len(self._with_room) < self._size

    async def wait(self, deadline: float) -> PooledConnection | None:
        """Wait in turn for room on a connection for many calls; none when there may be a new one. Raises `Timeout`."""
        self.current = None
        turn = _Turn(self._driver.waiter())
        self._queue.append(turn)
        try:
            with anyio.CancelScope(deadline=deadline) as scope:
                await turn.waiter
        except BaseException:
            self._leave(turn)
            raise
        if scope.cancelled_caught:
            self._leave(turn)
            raise too_late(self._address)
        if turn.connection is not None:
            turn.connection.reserved -= 1
        return turn.connection

    def _leave(self, turn: _Turn) -> None:
        """Let the next in the queue have what this one was given, or no longer waits for."""
        if turn in self._queue:
            self._queue.remove(turn)
        elif turn.connection is not None:
            turn.connection.reserved -= 1
            self._has_room(turn.connection)

    def close(self) -> None:
        """Close every connection as soon as what is under way on it is done, and send away who waits for one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._connections):
            self._finish(connection)
        self._send_away()

    def _has_room(self, connection: PooledConnection) -> None:
        if not connection.is_shared and len(self._with_room) >= self._size:
            self._finish(connection)
            return
        self._with_room[connection] = None
        while connection.is_shared and self._queue and not connection.is_full:
            turn = self._queue.popleft()
            if not turn.waiter.done():  # else it was cancelled, and is about to leave
                turn.connection = connection
                connection.reserved += 1
                turn.waiter.set_result(None)

    def _finish(self, connection: PooledConnection) -> None:
        self._forget(connection)
        connection.finish()

    def _forget(self, connection: PooledConnection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._with_room.pop(connection, None)
            if self.current is connection:
                self.current = None
            if connection.is_shared:
                self._send_away()

    def _send_away(self) -> None:
        """Let those who wait for room look again what there is."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.waiter.done():
                turn.waiter.set_result(None)

    def _expire(self) -> None:
        """Close what has been idle for too long, and look again when the next may have been."""
        self._timer = None
        now = self._driver.time()
        idle = [connection for connection in self._connections if connection.is_idle]
        for connection in idle:
            if now - connection.idle_since >= self._ttl:
                self._finish(connection)
        if self._connections:
            since = min((connection.idle_since for connection in self._connections if connection.is_idle), default=now)
            self._timer = self._driver.call_at(max(since + self._ttl, now + _TICK_SECONDS), self._expire)

    def __len__(self) -> int:
        return len(self._connections)
