"""An HTTP/2 connection as the caller sees it: one stream for each call, and one for each stream."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from micro_core import (
    ConnectFailed,
    ConnectionLost,
    Executed,
    Head,
    Headers,
    LimitExceeded,
    Message,
    MicroError,
    Timeout,
)
from micro_transport_http.http2.connection import STREAM_WINDOW, TUNNEL, H2Connected, StreamLink
from micro_transport_http.http2.fields import fields_of, headers_of
from micro_transport_http.io.link import Driver, Link, Timer, Waiter

from .answers import connection_lost, copied, refused, too_late
from .pooled import PooledConnection
from .stream import ClientStream

__all__ = ["H2Client"]

_PING_SECONDS = 15.0
"""How long a peer that owes answers may be silent before it is asked, and then until it is given up."""
_LINGER_SECONDS = 1.0
_WINDOW = 4 * STREAM_WINDOW


class _Pending:
    """A call under way."""

    __slots__ = ("headers", "parts", "size", "status", "timer", "waiter")

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter
        self.timer: Timer | None = None
        self.status = 0
        self.headers: Headers = {}
        self.parts: list[bytes] = []
        self.size = 0

    def settle(self, outcome: Message | MicroError) -> None:
        """Let the caller have its reply, or an error."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.waiter.done():
            self.waiter.set_result(outcome)


class H2Client(H2Connected, PooledConnection):
    """Calls out, answers in."""

    is_shared = True
    interleaves = True

    def __init__(
        self,
        driver: Driver,
        link: Link,
        address: str,
        *,
        headers: int,
        body: int,
    ) -> None:
        PooledConnection.__init__(self)
        self.link = link
        self.address = address
        self.idle_since = driver.time()
        self._body = body
        self._calls: dict[int, _Pending] = {}
        self._ready = driver.waiter()
        self._keepalive: Timer | None = None
        self._heard = driver.time()
        self._asked = False
        self.is_leaving = False
        self._was_busy = self._was_full = False
        settings = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: headers,
        }
        super().__init__(driver, link, is_client=True, settings=settings)
        self._h2.decoder.max_header_list_size = headers

    @property
    def in_flight(self) -> int:
        return len(self._calls) + len(self._links)

    @property
    def is_full(self) -> bool:
        return self.in_flight + self.reserved >= self._h2.remote_settings.max_concurrent_streams

    async def ready(self) -> None:
        """Wait until the peer has said what it takes. Raises what ended the connection before."""
        failed: MicroError | None = await self._ready
        if failed is not None:
            raise failed

    # ------------------------------------------------------------------------------------------ calls

    async def call(self, head: Head, key: bytes, headers: Headers, body: bytes, deadline: float) -> Message:
        if deadline <= self._driver.time():
            raise too_late(self.address)
        first = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", self.address.encode())]
        first += [(b":path", b"/"), (b"micro-id", key), (b"content-length", b"%d" % len(body))]
        fields = fields_of(first, head, headers)
        self._check_size(fields)
        stream = self._open(fields, ends=not body)
        pending = self._calls[stream] = _Pending(self._driver.waiter())
        self._came()
        if deadline < math.inf:
            pending.timer = self._driver.call_at(deadline, lambda: self._expired(stream))
        if body:
            self.send_body(stream, body, ends=True)
        self.flush()
        self._watch()
        try:
            outcome: Message | MicroError = await pending.waiter
        except BaseException:
            if self._calls.pop(stream, None) is not None:
                self.reset(stream)
            raise
        finally:
            if pending.timer is not None:
                pending.timer.cancel()
        if isinstance(outcome, MicroError):
            raise outcome
        return outcome

    def open_stream(self, start: bytes, *, headers: int, body: int) -> ClientStream:
        """Return a stream of messages on a stream of this connection."""
        fields = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", self.address.encode())]
        stream = self._open([*fields, (b":path", b"/"), (TUNNEL, b"1")], ends=False)
        link = self._links[stream] = StreamLink(self, self._driver, self._link, stream)
        opened = ClientStream(self._driver, link, self.address, start, headers=headers, body=body)
        link.owner = opened
        self._came()
        self.flush()
        self._watch()
        return opened

    def _open(self, fields: list[tuple[bytes, bytes]], *, ends: bool) -> int:
        try:
            stream = self._h2.get_next_available_stream_id()
            self._h2.send_headers(stream, fields, end_stream=ends)
        except H2Error as error:
            raise ConnectFailed(
                f"{self.address} takes no more on this connection: {error}", node=self.address
            ) from error
        return stream

    def _check_size(self, fields: list[tuple[bytes, bytes]]) -> None:
        most = self._h2.remote_settings.max_header_list_size
        if most is not None and sum(len(name) + len(value) + 32 for name, value in fields) > most:
            raise LimitExceeded(
                f"{self.address} takes headers of {most} bytes, and these are larger", code=431, executed=Executed.NO
            )

    def _expired(self, stream: int) -> None:
        pending = self._calls.pop(stream, None)
        if pending is not None:
            pending.settle(Timeout(f"no reply of {self.address} in time", executed=Executed.MAYBE))
            self.reset(stream)

    def reset(self, stream: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        super().reset(stream, code)
        self._left()

    def finish(self) -> None:
        self.is_leaving = True
        self._close_if_done()

    def _came(self) -> None:
        """Take note that there is one more under way."""
        self._was_busy = True
        self._was_full = self.is_full

    def _left(self) -> None:
        """Take note that there may be room again, or nothing under way any more."""
        if self._was_busy and not self.in_flight:
            self._was_busy = False
            self.idle_since = self._driver.time()
        if self._was_full and not self.is_full and not self.is_leaving:
            self.on_room(self)
            self._was_full = self.is_full
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self.is_leaving and not self.in_flight and not self._link.lost:
            self.say_goodbye()
            self._link.finish(_LINGER_SECONDS)

    # ------------------------------------------------------------------------------------------ from the link

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        self._heard, self._asked = self._driver.time(), False
        try:
            happened = self._h2.receive_data(data)
        except H2Error as error:
            self._fail_all(ConnectionLost(f"{self.address} broke the protocol: {error}", node=self.address))
            self.flush()
            self._link.close()
            return
        for event in happened:
            handle = _HANDLERS.get(type(event))
            if handle is not None:
                handle(self, event)
        self.flush()
        self._left()

    def writable(self, writable: bool) -> None:
        """Go on where the peer takes more."""
        if writable:
            self.pump_all()

    def lost(self) -> None:
        """Fail what is under way."""
        self._fail_all(connection_lost(self._link, self.address, f"{self.address} went away"))

    def _fail_all(self, error: MicroError) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None
        self.on_end(self)
        if not self._ready.done():
            self._ready.set_result(error)
        calls, self._calls = self._calls, {}
        for pending in calls.values():
            pending.settle(copied(error))
        links, self._links = self._links, {}
        for link in links.values():
            link.refusal = self._link.refusal
            link.close()

    def _on_settings(self, event: events.RemoteSettingsChanged) -> None:
        if not self._ready.done():
            self._ready.set_result(None)
        self.pump_all()

    def _on_window(self, event: events.WindowUpdated) -> None:
        self.pump_all()

    def _on_response(self, event: events.ResponseReceived) -> None:
        pending = self._calls.get(event.stream_id or 0)
        if pending is not None:
            pseudo, pending.headers = headers_of(event.headers)
            status = pseudo.get(b":status", b"")
            pending.status = int(status) if status.isdigit() else 0
            return
        link = self._links.get(event.stream_id or 0)
        if link is not None:
            _, headers = headers_of(event.headers)
            if b"Micro-Tunnel" not in headers:
                link.close()

    def _on_data(self, event: events.DataReceived) -> None:
        stream, size, data = event.stream_id or 0, event.flow_controlled_length or 0, event.data or b""
        self.taken(size)
        link = self._links.get(stream)
        if link is not None:
            link.arrived(data, size)
            return
        pending = self._calls.get(stream)
        if pending is None:
            return
        before, pending.size = pending.size, pending.size + size
        if pending.size > self._body:
            del self._calls[stream]
            text = f"the reply of {self.address} is too large: the body is larger than {self._body} bytes"
            pending.settle(LimitExceeded(text, code=413, executed=Executed.MAYBE))
            self.reset(stream)
            return
        pending.parts.append(data)
        self.taken_in(stream, before, pending.size)

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = event.stream_id or 0
        link = self._links.pop(stream, None)
        if link is not None:
            link.ended()
        pending = self._calls.pop(stream, None)
        if pending is None:
            return
        body = pending.parts[0] if len(pending.parts) == 1 else b"".join(pending.parts)
        if pending.status == 200:
            pending.settle(Message(pending.headers, body))
        else:
            pending.settle(refused(pending.status, body, self.address))

    def _on_reset(self, event: events.StreamReset) -> None:
        stream = event.stream_id or 0
        self._outgoing.pop(stream, None)
        link = self._links.pop(stream, None)
        if link is not None:
            link.close()
        pending = self._calls.pop(stream, None)
        if pending is None:
            return
        if event.error_code == ErrorCodes.REFUSED_STREAM:
            pending.settle(ConnectFailed(f"{self.address} takes no more calls", node=self.address))
        else:
            pending.settle(ConnectionLost(f"{self.address} gave up the call", node=self.address))

    def _on_goodbye(self, event: events.ConnectionTerminated) -> None:
        """Begin nothing new here; what the peer has not begun goes elsewhere."""
        self.is_leaving = True
        self.on_end(self)
        if event.error_code != ErrorCodes.NO_ERROR:
            self._fail_all(
                ConnectionLost(f"{self.address} ended the connection: {event.error_code}", node=self.address)
            )
            self._link.close()
            return
        for stream in [stream for stream in self._calls if stream > (event.last_stream_id or 0)]:
            self._calls.pop(stream).settle(ConnectFailed(f"{self.address} is leaving", node=self.address))

    # ------------------------------------------------------------------------------------------ keepalive

    def _watch(self) -> None:
        if self._keepalive is None:
            self._heard = max(self._heard, self._driver.time() - _PING_SECONDS / 2)
            self._keepalive = self._driver.call_at(self._driver.time() + _PING_SECONDS, self._look)

    def _look(self) -> None:
        """Ask a peer that owes something and is silent, and give up one that does not answer."""
        self._keepalive = None
        if not self.in_flight:
            return
        if self._driver.time() - self._heard >= _PING_SECONDS:
            if self._asked:
                self._link.close()
                return
            self._asked = True
            self._h2.ping(b"micro-up")
            self.flush()
        self._keepalive = self._driver.call_at(self._driver.time() + _PING_SECONDS, self._look)

    def __repr__(self) -> str:
        return f"<H2Client {self.address}, {self.in_flight} under way>"


_HANDLERS: dict[type, Callable[[H2Client, Any], None]] = {
    events.RemoteSettingsChanged: H2Client._on_settings,
    events.WindowUpdated: H2Client._on_window,
    events.ResponseReceived: H2Client._on_response,
    events.DataReceived: H2Client._on_data,
    events.StreamEnded: H2Client._on_end,
    events.StreamReset: H2Client._on_reset,
    events.ConnectionTerminated: H2Client._on_goodbye,
}
