"""An HTTP/1.1 connection as the client sees it: one call at a time (docs/wire.md §2)."""

from __future__ import annotations

import math

from micro_core import Executed, Head, Headers, Message, MicroError, Timeout
from micro_transport_http.http1.parser import ResponseParser
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http1.writer import message
from micro_transport_http.io.link import Driver, Link, Waiter

from .answers import connection_lost, refused, too_late, unreadable
from .pooled import PooledConnection

__all__ = ["Http1Client"]


class Http1Client(PooledConnection):
    """One call at a time; the first protocol error closes the connection.

    Whoever makes it, or gets it from the pool, has it to himself until his call ends.
    """

    def __init__(self, driver: Driver, link: Link, address: str, start: bytes, *, headers: int, body: int) -> None:
        super().__init__()
        self.link = link
        self.address = address
        self.idle_since = driver.time()
        self._driver = driver
        self._start = start
        self._parser = ResponseParser(self._message, headers=headers, body=body)
        self._waiter: Waiter | None = None
        self._is_taken = True
        self._is_leaving = False

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        try:
            self._parser.feed(data)
        except Refusal as refusal:
            self._failed(unreadable(refusal, self.address))
            self.link.close()

    def lost(self) -> None:
        """Fail what is under way; an answer without a length is whole only where the peer said that it was done."""
        try:
            if not self.link.was_cut:
                self._parser.end()
        except Refusal as refusal:
            self._failed(unreadable(refusal, self.address))
        self._failed(connection_lost(self.link, self.address, f"{self.address} went away"))
        self.on_end(self)

    def writable(self, writable: bool) -> None:
        """Requests are bounded by their number: a caller waits for its answer anyway."""

    @property
    def in_flight(self) -> int:
        return int(self._is_taken)

    @property
    def is_full(self) -> bool:
        return self._is_taken

    def take(self) -> None:
        self._is_taken = True

    def release(self) -> None:
        # Another call may have it, unless none can follow.
        self._is_taken = False
        self.idle_since = self._driver.time()
        if self._is_leaving or self.link.lost or self._parser.ended:
            self.link.close()
        else:
            self.on_room(self)

    def finish(self) -> None:
        self._is_leaving = True
        if not self._is_taken:
            self.link.close()

    async def call(self, head: Head, key: bytes, headers: Headers, body: bytes, deadline: float) -> Message:
        try:
            data = message(self._start, head, key, headers, body)
            if deadline <= self._driver.time():
                raise too_late(self.address)
            status, reply = await self._exchange(data, deadline)
            if status != 200:
                self.link.close()
                raise refused(status, reply.body, self.address)
        finally:
            self.release()
        return reply

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
        if self._waiter is None or status == 101:
            raise Refusal(400, "an answer that nobody asked for")
        self._settle((status, Message(headers, body)))

    def _failed(self, error: MicroError) -> None:
        self._settle(error)

    def _settle(self, outcome: tuple[int, Message] | MicroError) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(outcome)
