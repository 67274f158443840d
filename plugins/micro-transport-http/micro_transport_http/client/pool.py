"""Idle connections to one address, the longest idle first."""

from __future__ import annotations

from collections import deque

import anyio.lowlevel

from micro_transport_http.io.link import Driver, Timer

from .connection import SingleConnection

__all__ = ["Pool"]

_FRESH_SECONDS = 0.001
"""An idle time in which it need not be looked whether the peer has closed meanwhile."""


class Pool:
    """Connections that carry one call at a time, between two calls, ``rest`` seconds apart at least."""

    def __init__(self, driver: Driver, size: int, ttl: float, rest: float) -> None:
        self._driver = driver
        self._size = size
        self._ttl = ttl
        self._rest = rest
        self._idle: deque[SingleConnection] = deque()
        self._timer: Timer | None = None
        self._closed = False

    async def take(self, *, rested: bool = True) -> SingleConnection | None:
        """Return an idle connection that its peer has not closed, and that has ``rested`` unless there are too many."""
        while self._idle:
            now = self._driver.time()
            if rested and now - self._idle[0].idle_since < self._rest and len(self._idle) < self._size:
                return None
            connection = self._idle.popleft()
            connection.on_lost = None
            if now - connection.idle_since > self._ttl:
                connection.link.close()
                continue
            if now - connection.idle_since > _FRESH_SECONDS:
                # A turn of the loop, in which a connection that was closed meanwhile is noticed.
                try:
                    await anyio.lowlevel.checkpoint()
                except BaseException:
                    connection.link.close()
                    raise
            if connection.is_reusable:
                return connection
            connection.link.close()
        return None

    def give_back(self, connection: SingleConnection) -> None:
        """Keep a connection for the next call, or close it."""
        if self._closed or not connection.is_reusable or len(self._idle) >= self._size:
            connection.link.close()
            return
        connection.idle_since = self._driver.time()
        connection.on_lost = self._forget
        self._idle.append(connection)
        if self._timer is None:
            self._timer = self._driver.call_at(connection.idle_since + self._ttl, self._expire)

    def close(self) -> None:
        """Close the idle connections now, and those in use when they are given back."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            self._idle.pop().link.close()

    def _forget(self, connection: SingleConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def _expire(self) -> None:
        self._timer = None
        oldest = self._driver.time() - self._ttl
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.popleft().link.close()
        if self._idle:
            self._timer = self._driver.call_at(self._idle[0].idle_since + self._ttl, self._expire)

    def __len__(self) -> int:
        return len(self._idle)
