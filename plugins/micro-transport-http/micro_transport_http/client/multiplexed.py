"""A connection that carries many calls at once, matched by ``Micro-Id`` (docs/protocol.md §2)."""

from __future__ import annotations

import math

from micro_core import Executed, Head, Headers, Message, MicroError, ProtocolError, Timeout
from micro_transport_http.http1.writer import cancellation, message
from micro_transport_http.io.link import Driver, Link, Timer, Waiter

from .answers import copied, refused, too_late
from .single import Http1Connection

__all__ = ["MuxConnection"]

_LINGER_SECONDS = 1.0


class MuxConnection(Http1Connection):
    """Many calls at once, ``calls`` of them at most."""

    is_shared = True

    def __init__(
        self, driver: Driver, link: Link, address: str, start: bytes, *, calls: int, headers: int, body: int
    ) -> None:
        super().__init__(driver, link, address, start, headers=headers, body=body)
        self._calls = calls
        self._waiting: dict[bytes, tuple[Waiter, float]] = {}
        self._alarm: Timer | None = None
        self._alarm_at = math.inf
        self._is_leaving = False

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) + self.reserved >= self._calls

    async def call(self, head: Head, key: bytes, headers: Headers, body: bytes, deadline: float) -> Message:
        data = message(self._start, head, key, headers, body)
        if deadline <= self._driver.time():
            raise too_late(self.address)
        waiter = self._send(key, data, deadline)
        try:
            outcome: Message | MicroError = await waiter
        except BaseException:
            self._forget(key)
            raise
        if outcome.__class__ is Message:
            return outcome
        raise outcome  # type: ignore[misc]

    def _send(self, id: bytes, data: bytes, deadline: float) -> Waiter:
        """Send a request; the waiter gets the reply, or a `MicroError` as a value."""
        if id in self._waiting:
            raise ProtocolError(f"two calls with the id {id.decode()}", executed=Executed.NO)
        waiter = self._driver.waiter()
        self._waiting[id] = (waiter, deadline)
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        self.link.write(data, alone=len(self._waiting) == 1)
        return waiter

    def _forget(self, id: bytes) -> None:
        """Take back a call whose answer nobody waits for any more."""
        if self._waiting.pop(id, None) is not None:
            self.link.write(cancellation(self._start, id))
            self._left()

    def finish(self) -> None:
        self._is_leaving = True
        if not self._waiting:
            self.link.finish(_LINGER_SECONDS)

    def _message(self, headers: Headers, body: bytes) -> None:
        status = self._parser.status
        if status == 200:
            entry = self._waiting.pop(headers.get(b"Micro-Id", b""), None)
            if entry is not None:
                if not entry[0].done():
                    entry[0].set_result(Message(headers, body))
                self._left()
            return
        if len(self._waiting) == 1:
            # Nobody else can be meant; among several, none is known to be the one.
            self._failed(refused(status, body, self.address))
        self.link.close()

    def _left(self) -> None:
        """Take note that one call fewer is under way."""
        left = len(self._waiting)
        if left + self.reserved >= self._calls - 1 and not self._is_leaving:
            self.on_room(self)
        if not left:
            self.idle_since = self._driver.time()
            if self._is_leaving:
                self.link.finish(_LINGER_SECONDS)

    def _failed(self, error: MicroError) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at = math.inf
        waiting, self._waiting = self._waiting, {}
        for waiter, _ in waiting.values():
            if not waiter.done():
                waiter.set_result(error if len(waiting) == 1 else copied(error))

    def _set_alarm(self, when: float) -> None:
        """Keep one timer for all calls, at the earliest of their deadlines or before."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = self._driver.call_at(when, self._expire)

    def _expire(self) -> None:
        now = self._driver.time()
        for id in [id for id, (_, deadline) in self._waiting.items() if deadline <= now]:
            waiter, _ = self._waiting.pop(id)
            if not waiter.done():
                waiter.set_result(Timeout(f"no reply of {self.address} in time", executed=Executed.MAYBE))
            self.link.write(cancellation(self._start, id))
            self._left()
        self._alarm, self._alarm_at = None, math.inf
        earliest = min((deadline for _, deadline in self._waiting.values()), default=math.inf)
        if earliest < math.inf:
            self._set_alarm(earliest)

    def __repr__(self) -> str:
        return f"<MuxConnection {self.address}, {len(self._waiting)} calls>"
