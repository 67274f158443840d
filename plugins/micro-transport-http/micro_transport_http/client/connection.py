"""One connection as the caller sees it: which answer belongs to which call.

Three ways of life (docs/protocol.md §2): one call at a time, many calls at once, or one stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from micro_core import (
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    Executed,
    Head,
    Headers,
    LimitExceeded,
    Message,
    MicroError,
    ProtocolError,
    Timeout,
)
from micro_transport_http.http1.parser import MUX, ResponseParser
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http1.stream_messages import MessageStream
from micro_transport_http.http1.writer import cancellation
from micro_transport_http.io.link import Driver, Link, Timer, Waiter

__all__ = ["ClientStream", "MuxConnection", "SingleConnection", "connection_lost", "refused"]

_LINGER_SECONDS = 1.0

_CALLS = 100
"""Calls at once on a connection whose peer does not say how many it takes (docs/protocol.md §2)."""


def refused(status: int, body: bytes, address: str) -> MicroError:
    """Return the error for an answer that is no reply (docs/protocol.md §3)."""
    detail = body[:500].decode("utf-8", "replace").strip()
    text = f"{address} refused the message: {status} {detail}"
    if status in (413, 431):
        return LimitExceeded(text, code=status, executed=Executed.NO)
    if status == 400:
        return BadRequest(text, executed=Executed.NO)
    if status == 408:
        return Timeout(text, executed=Executed.NO)
    return ProtocolError(f"{address} gave an answer that is no reply: {status} {detail}", executed=Executed.MAYBE)


def _nonsense(refusal: Refusal, address: str) -> MicroError:
    if refusal.status in (413, 431):
        return LimitExceeded(f"the reply of {address} is too large: {refusal.sentence}", code=refusal.status)
    return ProtocolError(f"{address} broke the protocol: {refusal.sentence}", executed=Executed.MAYBE)


class _Connection:
    """What the three have in common: a link that ends with the first nonsense."""

    def __init__(self, link: Link, address: str, *, headers: int, body: int) -> None:
        self.link = link
        self.address = address
        self._parser = ResponseParser(self._message, headers=headers, body=body)

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        try:
            self._parser.feed(data)
        except Refusal as refusal:
            self._failed(_nonsense(refusal, self.address))
            self.link.close()

    def lost(self) -> None:
        """Fail what is under way."""
        self._parser.end()
        self._failed(connection_lost(self.link, self.address, f"{self.address} went away"))

    def writable(self, writable: bool) -> None:
        """A caller waits for its answer anyway."""

    def _message(self, headers: Headers, body: bytes) -> None:
        raise NotImplementedError

    def _failed(self, error: MicroError) -> None:
        raise NotImplementedError


class SingleConnection(_Connection):
    """One call at a time."""

    def __init__(self, driver: Driver, link: Link, address: str, *, headers: int, body: int) -> None:
        super().__init__(link, address, headers=headers, body=body)
        self._driver = driver
        self._waiter: Waiter | None = None
        self._is_asking = False
        self.idle_since = 0.0
        self.on_lost: Callable[[SingleConnection], None] | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether another call may follow."""
        return not (self.link.lost or self._parser.ended or self._waiter is not None)

    async def call(self, data: bytes, deadline: float) -> Message:
        """Send a request and return the reply. Leaving without a reply closes the connection."""
        status, reply = await self._exchange(data, deadline)
        if status != 200:
            self.link.close()
            raise refused(status, reply.body, self.address)
        return reply

    async def ask(self, data: bytes, deadline: float) -> int:
        """Ask for multiplexing; return how many calls the peer takes at once, 0 for no. Raises as `call` does."""
        self._is_asking = True
        try:
            status, reply = await self._exchange(data, deadline)
        finally:
            self._is_asking = False
        if status != 101 or reply.headers.get(b"Upgrade", b"").lower() != MUX:
            return 0
        calls = reply.headers.get(b"Micro-Calls", b"")
        return max(int(calls), 1) if calls.isdigit() and len(calls) < 10 else _CALLS

    async def _exchange(self, data: bytes, deadline: float) -> tuple[int, Message]:
        waiter = self._waiter = self._driver.waiter()
        timer = self._driver.call_at(deadline, self._expired) if deadline < math.inf else None
        self.link.write(data)
        try:
            outcome: tuple[int, Message] | MicroError = await waiter
        except BaseException:
            self._waiter = None
            self.link.close()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if isinstance(outcome, MicroError):
            self.link.close()
            raise outcome
        return outcome

    def _expired(self) -> None:
        self._failed(Timeout(f"no reply of {self.address} in time", executed=Executed.MAYBE))

    def _message(self, headers: Headers, body: bytes) -> None:
        status = self._parser.status
        if self._waiter is None or (status == 101 and not self._is_asking):
            raise Refusal(400, "an answer that nobody asked for")
        self._settle((status, Message(headers, body)))

    def _failed(self, error: MicroError) -> None:
        self._settle(error)
        if self.on_lost is not None and self.link.lost:
            self.on_lost(self)

    def _settle(self, outcome: tuple[int, Message] | MicroError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)


class MuxConnection(_Connection):
    """Many calls at once, matched by ``Micro-Id``."""

    def __init__(
        self,
        driver: Driver,
        link: Link,
        address: str,
        start: bytes,
        ended: Callable[[MuxConnection], None],
        *,
        calls: int,
        headers: int,
        body: int,
    ) -> None:
        super().__init__(link, address, headers=headers, body=body)
        self._driver = driver
        self._start = start
        self._ended = ended
        self._calls = calls
        self.time = driver.time
        self._waiting: dict[bytes, tuple[Waiter, float]] = {}
        self._alarm: Timer | None = None
        self._alarm_at = math.inf
        self.is_closing = False

    @property
    def in_flight(self) -> int:
        """How many calls wait for their answers."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the peer would leave one more call unread."""
        return len(self._waiting) >= self._calls

    def send(self, id: bytes, data: bytes, deadline: float) -> Waiter:
        """Send a request; the waiter gets the reply, or a `MicroError` as a value."""
        if id in self._waiting:
            raise ProtocolError(f"two calls with the id {id.decode()}", executed=Executed.NO)
        waiter = self._driver.waiter()
        self._waiting[id] = (waiter, deadline)
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        self.link.write(data, alone=len(self._waiting) == 1)
        return waiter

    def forget(self, id: bytes) -> None:
        """Take back a call whose answer nobody waits for any more."""
        if self._waiting.pop(id, None) is not None:
            self.link.write(cancellation(self._start, id))
            self._close_if_done()

    def finish(self) -> None:
        """Close as soon as the calls under way are done."""
        self.is_closing = True
        self._close_if_done()

    def _message(self, headers: Headers, body: bytes) -> None:
        status = self._parser.status
        if status == 200:
            entry = self._waiting.pop(headers.get(b"Micro-Id", b""), None)
            if entry is not None and not entry[0].done():
                entry[0].set_result(Message(headers, body))
            if self.is_closing:
                self._close_if_done()
            return
        if len(self._waiting) == 1:
            # Nobody else can be meant; among several, none is known to be the one.
            self._failed(refused(status, body, self.address))
        self.link.close()

    def _failed(self, error: MicroError) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._alarm_at = math.inf
        waiting, self._waiting = self._waiting, {}
        for waiter, _ in waiting.values():
            if not waiter.done():
                waiter.set_result(error if len(waiting) == 1 else _copy(error))
        self._ended(self)

    def _close_if_done(self) -> None:
        if self.is_closing and not self._waiting:
            self.link.finish(_LINGER_SECONDS)

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
        self._alarm, self._alarm_at = None, math.inf
        earliest = min((deadline for _, deadline in self._waiting.values()), default=math.inf)
        if earliest < math.inf:
            self._set_alarm(earliest)
        self._close_if_done()


class ClientStream(MessageStream):
    """The caller's end of a stream, which reads its link itself."""

    def __init__(self, driver: Driver, link: Link, address: str, start: bytes, *, headers: int, body: int) -> None:
        super().__init__(driver, link, start, b"")
        self.address = address
        self._mark = b""
        self._parser = ResponseParser(self._message, headers=headers, body=body)
        self._is_reading = True
        self.on_taken = self._adjust_reading
        self.on_closed = self._let_go

    async def send(self, head: Head, headers: Headers, body: bytes) -> None:
        """Send a message; each carries the ids of the first, by which the peer knows them (docs/wire.md §3.4)."""
        mark = headers.get(b"Micro-Stream") or head.headers.get(b"Micro-Stream")
        if mark is None and self._mark:
            headers = {**headers, b"Micro-Stream": self._mark}
        elif mark is not None and not self._mark:
            self._mark = mark
            self._id = headers.get(b"Micro-Id") or head.headers.get(b"Micro-Id") or mark
        await super().send(head, headers, body)

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        try:
            self._parser.feed(data)
        except Refusal as refusal:
            self.fail(_nonsense(refusal, self.address))
            self._link.close()
        self._adjust_reading()

    def lost(self) -> None:
        """Let the receiver know, after what it has not read yet."""
        self._parser.end()
        self.fail(connection_lost(self._link, self.address, f"{self.address} went away in mid-stream"))

    def writable(self, writable: bool) -> None:
        """Senders wait for the link themselves."""

    def _message(self, headers: Headers, body: bytes) -> None:
        status = self._parser.status
        if status == 200:
            self.push(Message(headers, body))
        else:
            self.fail(refused(status, body, self.address))
            self._link.close()

    def _adjust_reading(self) -> None:
        if self.is_full and self._is_reading:
            self._is_reading = False
            self._link.pause()
        elif not self.is_full and not self._is_reading:
            self._is_reading = True
            self._link.resume()

    def _let_go(self) -> None:
        self._link.finish(_LINGER_SECONDS)


def connection_lost(link: Link, address: str, what: str) -> MicroError:
    """Return the error for a connection that ended; one that TLS ended has executed nothing."""
    if link.refusal:
        return ConnectFailed(f"cannot connect to {address}: {link.refusal}", node=address)
    return ConnectionLost(what, node=address)


def _copy(error: MicroError) -> MicroError:
    """Return an error of its own for each caller: each adds to it what it knows."""
    if isinstance(error, ConnectFailed):
        return ConnectFailed(error.detail, node=error.node)
    if isinstance(error, ConnectionLost):
        return ConnectionLost(error.detail, node=error.node, executed=error.executed)
    return ProtocolError(error.detail, executed=Executed.MAYBE)
