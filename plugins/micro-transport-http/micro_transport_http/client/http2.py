"""An HTTP/2 connection as the caller sees it: one stream for each call, and one for each stream of messages."""

from __future__ import annotations

import math

from micro_core import (
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
from micro_transport_http.http2.broken import ConnectionBroken
from micro_transport_http.http2.frames import LARGEST_WINDOW, PREFACE, Code, Setting, block_frames, message_frames
from micro_transport_http.http2.header_list import Start, response_of
from micro_transport_http.http2.reading_blocks import BlockReader
from micro_transport_http.http2.silence import LOOK_SECONDS, Silence, Verdict
from micro_transport_http.http2.writing_blocks import BlockWriter
from micro_transport_http.io.link import Driver, Link, Timer

from .answers import connection_lost, copied, too_late
from .http2_streams import CLIENT_WINDOW, ClientConnection, Http2Call, Http2ClientStream
from .pooled import PooledConnection

__all__ = ["Http2Client", "NoHttp2"]

_SUSPICIOUS_SECONDS = 0.1
"""A peer that let a call run out, and was silent for so long, gets no further calls until it answers a PING."""
_LINGER_SECONDS = 1.0
_OVERHEAD = 32
"""What a field counts for beside its bytes (RFC 9113 §6.5.2)."""
_USUAL = 4096
"""Bytes of a block that every listener takes, and that fit into every frame."""
_LAST = LARGEST_WINDOW - 1000
"""The number of the stream after which another connection is used."""


class NoHttp2(Exception):
    """The peer speaks no HTTP/2, or is none of ours. Nothing was executed."""


class Http2Client(ClientConnection, PooledConnection):
    """Calls out, answers in."""

    is_shared = True

    def __init__(self, driver: Driver, link: Link, address: str, *, scheme: bytes, headers: int, body: int) -> None:
        PooledConnection.__init__(self)
        first = [(b":method", b"POST"), (b":scheme", scheme), (b":path", b"/"), (b":authority", address.encode())]
        ClientConnection.__init__(
            self,
            link,
            BlockReader(response_of, headers),
            BlockWriter(first),
            {Setting.ENABLE_PUSH: 0},
            window=CLIENT_WINDOW,
            headers=headers,
            time=driver.time,
        )
        self.link = link
        self.address = address
        self.idle_since = driver.time()
        self.most_body = body
        self._most_headers = headers
        self._driver = driver
        self._time = driver.time
        self._first = first
        self._next = 1
        self._opening: set[Http2ClientStream] = set()
        """Streams that were promised, and whose first message is still to be sent."""
        self._most_streams = 100
        self._ready = driver.waiter()
        self._silence = Silence(driver.time())
        self._is_suspect = False
        self._is_leaving = False
        self._was_full = False
        self._keepalive: Timer | None = None
        self._alarm: Timer | None = None
        self._alarm_at = math.inf
        link.write(PREFACE + self.hello)

    @property
    def in_flight(self) -> int:
        return len(self.streams) + len(self._opening)

    @property
    def is_in_use(self) -> bool:
        taken = len(self.streams) + len(self._opening) + self.reserved
        return 0 < taken < self._most_streams and not self._is_suspect

    @property
    def is_idle(self) -> bool:
        return not (self.streams or self._opening or self.reserved)

    @property
    def is_full(self) -> bool:
        taken = len(self.streams) + len(self._opening) + self.reserved
        return taken >= self._most_streams or self._is_suspect

    async def ready(self) -> None:
        """Wait until the peer has said what it takes. Raises `NoHttp2`."""
        failed: Exception | None = await self._ready
        if failed is not None:
            raise failed

    # ------------------------------------------------------------------------------------------ calls

    async def call(self, head: Head, key: bytes, headers: Headers, body: bytes, deadline: float) -> Message:
        call = self._send(head, headers, body, deadline)
        try:
            outcome: Message | MicroError = await call.waiter
        except BaseException:
            self.forget(call)
            raise
        if outcome.__class__ is Message:
            return outcome
        raise outcome  # type: ignore[misc]

    def _send(self, head: Head, headers: Headers, body: bytes, deadline: float) -> Http2Call:
        """Send a request. Raises `EncodeError`, `LimitExceeded`, `Timeout`."""
        if deadline <= self._time():
            raise too_late(self.address)
        if len(headers) > 1 or head not in self.writer.known:
            self._check_size(head, headers)
        block = self.writer.message(head, headers)
        number = self._number()
        call = Http2Call(self, number, self._driver.waiter(), deadline)
        alone = not self.streams
        self.streams[number] = call
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        if body and len(block) <= _USUAL and self.sending.fits(call, len(body)):
            self.wire.write(message_frames(number, block, body), alone=alone)
        else:
            self.wire.write(block_frames(number, block, 0, self.sending.frame_size))
            self.sending.send(call, body, ends=True)
        if self._keepalive is None or len(self.streams) >= self._most_streams:
            self._came()
        return call

    def _number(self) -> int:
        """Return the number of a new stream."""
        if self.is_over or self.link.lost:
            raise ConnectFailed(f"{self.address} went away", node=self.address)
        number = self._next
        if number > _LAST:
            self._leave()
            if number > LARGEST_WINDOW:
                raise ConnectFailed(f"this connection to {self.address} has no streams left", node=self.address)
        self._next = number + 2
        return number

    def _check_size(self, head: Head, headers: Headers) -> None:
        most = self.peer.get(Setting.MAX_HEADER_LIST_SIZE)
        if most is None:
            return
        fields = [*self._first, *head.headers.items(), *headers.items()]
        if sum(len(name) + len(value) + _OVERHEAD for name, value in fields) > most:
            text = f"{self.address} takes headers of {most} bytes, and these are larger"
            raise LimitExceeded(text, code=431, executed=Executed.NO)

    def forget(self, call: Http2Call) -> None:
        if self.streams.get(call.id) is call:
            self.reset(call.id, Code.CANCEL)
            self.left()

    def answered(self, call: Http2Call) -> None:
        if call.outgoing is not None:
            self.reset(call.id, Code.NO_ERROR)
        self.streams.pop(call.id, None)
        self.left()

    # ------------------------------------------------------------------------------------------ streams

    def open_stream(self) -> Http2ClientStream:
        """Return a stream of messages."""
        stream = Http2ClientStream(self._driver, self, headers=self._most_headers, body=self.most_body)
        self._opening.add(stream)
        self._came()
        return stream

    def begin_stream(self, stream: Http2ClientStream, head: Head, headers: Headers) -> None:
        self._check_size(head, headers)
        stream.id = self._number()
        block = self.writer.block(self._first, {**head.headers, **headers})
        self._opening.discard(stream)
        self.streams[stream.id] = stream
        self.wire.write(block_frames(stream.id, block, 0, self.sending.frame_size))

    def closed(self, stream: Http2ClientStream) -> None:
        self._opening.discard(stream)
        self.left()

    # ------------------------------------------------------------------------------------------ coming and going

    def _came(self) -> None:
        """Take note that something is under way, or that there is no room for more."""
        self._was_full = self._was_full or self.is_full
        if self._keepalive is None:
            now = self._driver.time()
            self._silence.begins(now)
            self._keepalive = self._driver.call_at(now + LOOK_SECONDS, self._look)

    def left(self) -> None:
        if not (self.streams or self._opening):
            self.idle_since = self._time()
            if self._is_leaving and not self.link.lost:
                self.end(Code.NO_ERROR)
                self.link.finish(_LINGER_SECONDS)
        if self._was_full and not self._is_leaving and not self.is_full:
            self.on_room(self)
            self._was_full = self.is_full

    def _leave(self) -> None:
        """Begin nothing new here."""
        if not self._is_leaving:
            self._is_leaving = True
            self.on_end(self)

    def finish(self) -> None:
        self._is_leaving = True
        self.left()

    # ------------------------------------------------------------------------------------------ from the link

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        self._silence.broken(self._time())
        if self._is_suspect:
            self._is_suspect = False
            self.left()
        self.receive(data)

    def writable(self, writable: bool) -> None:
        """Go on where the peer takes more."""
        if writable:
            self.sending.pump()
            for stream in list(self.streams.values()):
                stream.room_again()

    def lost(self) -> None:
        """Fail what is under way."""
        self._fail_all(connection_lost(self.link, self.address, f"{self.address} went away"))

    def on_broken(self, sentence: str) -> None:
        self._fail_all(ProtocolError(f"{self.address} broke the protocol: {sentence}", executed=Executed.MAYBE))
        self.link.close()

    def _fail_all(self, error: MicroError) -> None:
        self.is_over = True
        for timer in (self._keepalive, self._alarm):
            if timer is not None:
                timer.cancel()
        self._keepalive = self._alarm = None
        self._alarm_at = math.inf
        self._leave()
        if not self._ready.done():
            self._ready.set_result(error if isinstance(error, ConnectFailed) else NoHttp2(error.detail))
        streams = [*self.streams.values(), *self._opening]
        self.streams, self._opening = {}, set()
        for stream in streams:
            self.sending.forget(stream)
            stream.lost(copied(error))

    def is_unbegun(self, stream: int) -> bool:
        return not stream & 1 or stream >= self._next

    def begin(self, stream: int) -> None:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, f"HEADERS of stream {stream}, which nobody began")

    def is_forgiven(self, stream: int) -> bool:
        return True  # it may answer what was given up meanwhile

    def on_message(self, stream: int, start: Start, headers: Headers, body: bytes) -> bool:
        call = self.streams.get(stream)
        if call.__class__ is not Http2Call or not start.is_call or call.has_fields or call.outgoing is not None:
            return False
        del self.streams[stream]
        waiter = call.waiter
        if not waiter.done():
            waiter.set_result(Message(headers, body))
        if self._was_full or not self.streams:
            self.left()
        return True

    def on_start(self, stream: int, start: Start, headers: Headers, *, ends: bool) -> None:
        call = self.streams[stream]
        if start.status < 200:
            if ends:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "an interim answer that ends a stream")
            return
        call.has_fields = True
        call.expected = start.length
        call.begins(start.status, headers)
        if ends:
            call.has_ended = True
            call.arrived(b"")

    def on_settings(self) -> None:
        if Setting.MICRO not in self.peer:
            raise ConnectionBroken(Code.NO_ERROR, "it speaks HTTP/2, and is none of ours")
        self._most_streams = self.peer.get(Setting.MAX_CONCURRENT_STREAMS, 100)
        if not self._ready.done():
            self._ready.set_result(None)
        self.left()

    def on_goaway(self, last: int, code: int) -> None:
        """Begin nothing new here; what the peer has not begun goes elsewhere."""
        self._leave()
        if code != Code.NO_ERROR:
            name = Code.name_of(code)
            self._fail_all(ConnectionLost(f"{self.address} ended the connection: {name}", node=self.address))
            self.link.close()
            return
        for number in [number for number in self.streams if number > last]:
            stream = self.streams.pop(number)
            self.sending.forget(stream)
            stream.was_reset(Code.REFUSED_STREAM, "")
        self.left()

    # ------------------------------------------------------------------------------------------ time

    def _set_alarm(self, when: float) -> None:
        """Keep one timer for all calls, at the earliest of their deadlines or before."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = when
        self._alarm = self._driver.call_at(when, self._expire)

    def _expire(self) -> None:
        """Give up the calls whose deadline has passed."""
        now = self._driver.time()
        self._alarm, self._alarm_at = None, math.inf
        calls = [stream for stream in self.streams.values() if isinstance(stream, Http2Call)]
        for call in calls:
            if call.deadline <= now:
                call.settle(Timeout(f"no reply of {self.address} in time", executed=Executed.MAYBE))
                self._suspect(now)
                self.forget(call)
        earliest = min((call.deadline for call in calls if call.deadline > now), default=math.inf)
        if earliest < math.inf:
            self._set_alarm(earliest)

    def _suspect(self, now: float) -> None:
        """Ask a peer that let a call run out whether it is there, and give it nothing more until it is heard of."""
        if now - self._silence.since >= _SUSPICIOUS_SECONDS and not self._is_suspect:
            self._is_suspect = self._was_full = True
            self._silence.asked(now)
            self.ping()

    def _look(self) -> None:
        """Ask a peer that owes something and is silent, and give up one that does not answer."""
        self._keepalive = None
        if not (self.in_flight or self._is_suspect) or self.link.lost:
            return
        now = self._driver.time()
        verdict = self._silence.verdict(now)
        if verdict is Verdict.GONE:
            self.link.close()
            return
        if verdict is Verdict.ASK:
            self.ping()
        self._keepalive = self._driver.call_at(now + LOOK_SECONDS, self._look)

    def __repr__(self) -> str:
        return f"<Http2Client {self.address}, {self.in_flight} under way>"
