"""An HTTP/2 connection as the listener sees it: each stream is a request, or carries the messages of a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from micro_core import EncodeError, Head, Headers, Limits, Request
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http2.broken import ConnectionBroken, StreamBroken
from micro_transport_http.http2.connection import LOW_WINDOW
from micro_transport_http.http2.frames import (
    END_STREAM,
    LARGEST_WINDOW,
    PREFACE,
    Code,
    Setting,
    block_frames,
    message_frames,
)
from micro_transport_http.http2.header_list import OPENS_STREAM, Start, request_of
from micro_transport_http.http2.reading_blocks import BlockReader
from micro_transport_http.http2.silence import Silence, Verdict
from micro_transport_http.http2.stream_state import StreamState
from micro_transport_http.http2.writing_blocks import BlockWriter, mended
from micro_transport_http.io.link import Driver, Link

from .bodies import Bodies
from .door import Door
from .http2_streams import SERVER_WINDOW, Http2Request, Http2ServerStream, ServerConnection, StreamRequest
from .request import ConnectionRequest

__all__ = ["Http2Server"]

_logger = logging.getLogger("micro.transport.http")

_VERSION = 1
"""Of docs/protocol.md."""
_LINGER_SECONDS = 2.0

_SHORT = 8192
"""Blocks below this fit into any peer's frames."""

_OK = [(b":status", b"200")]


class Http2Server(ServerConnection):
    """Streams in, requests out, answers back. An owner of a link."""

    def __init__(
        self,
        driver: Driver,
        link: Link,
        receive: Callable[[Request], None],
        limits: Limits,
        *,
        local: str,
        door: Door,
        ended: Callable[[Any], None],
    ) -> None:
        own = {Setting.MAX_CONCURRENT_STREAMS: limits.calls, Setting.MICRO: _VERSION}
        reader = BlockReader(request_of, limits.headers)
        super().__init__(
            link, reader, BlockWriter(_OK), own, window=SERVER_WINDOW, headers=limits.headers, time=driver.time
        )
        self.driver = driver
        self.now = driver.time()
        self._new: list[ConnectionRequest] = []
        """What has come with the bytes at hand: what they also give up is never handed on."""
        self.remote = link.remote
        self._link = link
        self._receive = receive
        self._limits = limits
        self.local = local
        self._door = door
        self.most_body = limits.body
        self.peer_names = link.peer
        self._ended_by = ended
        self.running = 0
        """Requests that were handed on, and that nobody has answered or ended yet, given up or not."""
        self._bodies = Bodies(self.allow, SERVER_WINDOW // 2)
        self._preface = PREFACE
        self._head_since: float | None = driver.time()
        self._idle_since: float | None = None
        self._silence = Silence(driver.time())
        link.write(self.hello)

    # ------------------------------------------------------------------------------------------ from the link

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        if self.is_over:
            return
        now = self.now = self.driver.time()
        self._silence.broken(now)
        if self._preface:
            size = min(len(data), len(self._preface))
            if data[:size] != self._preface[:size]:
                self.end(Code.PROTOCOL_ERROR, "no HTTP/2")
                self.on_broken("it began with no HTTP/2")
                return
            self._preface, data = self._preface[size:], data[size:]
            if self._preface:
                return
            self._head_since = None
        self.receive(data)
        if self._new:
            self._hand_on()
        if not self.is_in_block:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = now

    def writable(self, writable: bool) -> None:
        """Go on where the peer takes answers again."""
        if writable:
            self.sending.pump()
            for stream in list(self.streams.values()):
                stream.room_again()

    def lost(self) -> None:
        """Give up everything: nobody is there any more."""
        self.is_over = True
        self._abandon_all()
        self._ended_by(self)

    def drain(self) -> None:
        """Tell the peer to call elsewhere; what is under way goes on."""
        self.goodbye(LARGEST_WINDOW, Code.NO_ERROR)

    def check(self, now: float) -> None:
        """Look, now and then, whether the peer takes too long."""
        if self._head_since is not None and now - self._head_since > self._limits.header_seconds:
            self._head_since = None
            sentence = f"no complete headers within {self._limits.header_seconds:g} seconds"
            self.cut_off(sentence)
        elif self.streams:
            if self._idle_since is not None:
                self._idle_since = None
                self._silence.begins(now)
            self._ask_if_silent(now)
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > self._limits.idle_seconds:
            self.end(Code.NO_ERROR)
            self._link.finish(_LINGER_SECONDS)

    @property
    def unfinished(self) -> int:
        """Bytes of requests that are not all here."""
        return self._bodies.unfinished

    def cut_off(self, sentence: str) -> None:
        """End the connection, saying why."""
        self.end(Code.ENHANCE_YOUR_CALM, sentence)
        self.on_broken(sentence)

    def _ask_if_silent(self, now: float) -> None:
        verdict = self._silence.verdict(now)
        if verdict is Verdict.ASK:
            self.ping()
        elif verdict is Verdict.GONE:
            _logger.info("gave up %s, of which nothing was heard any more", self.remote)
            self._link.close()

    def on_broken(self, sentence: str) -> None:
        _logger.info("refused %s: %s", self.remote, sentence)
        self._abandon_all()
        self._link.finish(_LINGER_SECONDS)

    def _abandon_all(self) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self.sending.forget(stream)
            stream.was_reset(Code.CANCEL, "")

    # ------------------------------------------------------------------------------------------ requests

    def is_unbegun(self, stream: int) -> bool:
        return stream > self.highest or not stream & 1

    def begin(self, stream: int) -> None:
        if not stream & 1:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"stream {stream} is not the caller's to begin")
        self.highest = stream

    def on_message(self, stream: int, start: Start, headers: Headers, body: bytes) -> bool:
        limit = self._limits.calls
        if not (start.is_call and stream > self.highest and stream & 1) or len(self.streams) >= limit:
            return False
        if not start.is_let_in or b"Origin" in headers:
            return False
        if self.running >= 2 * limit or len(body) > self.most_body:
            return False
        self.highest = stream
        request = self.streams[stream] = Http2Request(self, stream, headers, body, is_complete=True)
        self.running += 1
        self._bodies.held += len(body)
        self._new.append(request)
        return True

    def on_start(self, stream: int, start: Start, headers: Headers, *, ends: bool) -> None:
        if len(self.streams) >= self._limits.calls or self.running >= 2 * self._limits.calls:
            raise StreamBroken(stream, Code.REFUSED_STREAM, "more calls at once than were allowed")
        refusal = self._at_the_door(start, headers)
        if refusal is None and not OPENS_STREAM.isdisjoint(headers):
            self._open_stream(stream, headers, ends=ends)
            return
        request = Http2Request(self, stream, headers, b"", is_complete=False)
        if start.length is not None:
            request.expected = start.length
        if start.method == b"HEAD":
            request.is_bodiless = True
        self.streams[stream] = request
        request.has_ended = ends
        if refusal is not None:
            self._refuse(request, refusal)
        elif ends:
            self.complete(request)

    def _at_the_door(self, start: Start, headers: Headers) -> Refusal | None:
        """Return why a request is not let in; what begins like one that was is not asked about again."""
        try:
            self._door.check(start.method, start.host, headers)
        except Refusal as refusal:
            return refusal
        start.is_let_in = True
        return None

    def complete(self, request: Http2Request) -> None:
        request.is_complete = True
        if request.parts is None:
            self._bodies.held += len(request.body)
        self.running += 1
        self.hand(request)

    def hand(self, request: ConnectionRequest) -> None:
        self._new.append(request)

    def _hand_on(self) -> None:
        """Let the server have what has come, all of it read before the first is begun."""
        new, self._new = self._new, []
        for request in new:
            if request.connection is None:
                continue
            request.is_handed_on = True
            try:
                self._receive(request)
            except Exception:
                _logger.exception("the receiver of requests failed")
                self._link.close()

    def withdraw(self, request: Http2Request) -> None:
        self.running -= 1
        self._release(len(request.body))

    def collect(self, request: Http2Request, data: bytes) -> None:
        parts = request.parts
        if parts is None:
            parts = request.parts = []
        parts.append(data)
        self._bodies.came(len(data))
        if request.length > self._limits.body:
            self._refuse(request, Refusal(413, f"the body is larger than {self._limits.body} bytes"))
        elif request.has_ended:
            request.body = b"".join(parts)
            request.parts = []
            self._bodies.finished(request)
            self.complete(request)
        elif request.size + SERVER_WINDOW // 2 > SERVER_WINDOW + request.allowed:
            self._bodies.let_on(request)

    def drop(self, request: Http2Request) -> None:
        self._bodies.finished(request)
        self._release(request.length)

    def _release(self, size: int) -> None:
        self._bodies.held -= size
        if self.window < LOW_WINDOW:
            self.give_back()

    def may_give_back(self) -> bool:
        return self._bodies.are_few

    def _open_stream(self, stream: int, headers: Headers, *, ends: bool) -> None:
        request = StreamRequest(headers, b"", local=self.local, remote=self.remote)
        request.peer = self.peer_names
        request.connection = self
        request.received_at = self.now
        request.is_bodiless = False
        opened = Http2ServerStream(self, request, stream, self._limits)
        request.stream = opened
        self.streams[stream] = opened
        if ends:
            opened.has_ended = True
            opened.arrived(b"")

    # ------------------------------------------------------------------------------------------ answers

    def answer(self, request: Http2Request, head: Head, headers: Headers, body: bytes) -> None:
        self.running -= 1
        self.served += 1
        self._release(len(request.body))
        if request.connection is None:
            return
        request.connection = None
        if b"Micro-Id" in request.headers:
            headers = {**headers, b"Micro-Id": request.headers[b"Micro-Id"]}
        try:
            block = self.writer.message(head, headers)
        except EncodeError as error:
            _logger.warning("an answer was mended: %s", error)
            block = self.writer.block(_OK, mended({**head.headers, **headers}))
        if body and not request.is_bodiless and len(block) < _SHORT and self.sending.fits(request, len(body)):
            del self.streams[request.id]
            self.wire.write(message_frames(request.id, block, body), alone=not self.streams)
        else:
            self._respond(request, block, b"" if request.is_bodiless else body)

    def _respond(self, stream: Http2Request, block: bytes, body: bytes) -> None:
        frames = block_frames(stream.id, block, 0 if body else END_STREAM, self.sending.frame_size)
        if body:
            self.wire.write(frames)
            self.sending.send(stream, body, ends=True)
        else:
            del self.streams[stream.id]
            self.wire.write(frames, alone=not self.streams)

    def begin_answer(self, stream: StreamState, head: Head) -> None:
        try:
            block = self.writer.block(_OK, head.headers)
        except EncodeError:
            block = self.writer.block(_OK, mended(head.headers))
        self.wire.write(block_frames(stream.id, block, 0, self.sending.frame_size))

    def _refuse(self, request: Http2Request, refusal: Refusal) -> None:
        """Say what is wrong with one request; its neighbours go on."""
        _logger.info("refused %s: %d %s", self.remote, refusal.status, refusal.sentence)
        self.floods.made.take()
        request.connection = None
        self.drop(request)
        fields = [(b":status", b"%d" % refusal.status), (b"content-type", b"text/plain; charset=utf-8")]
        has_ended = request.has_ended
        body = b"" if request.is_bodiless else f"{refusal.sentence}\n".encode("utf-8", "replace")
        self._respond(request, self.writer.block(fields, {}), body)
        if not has_ended:
            self.reset(request.id, Code.NO_ERROR)

    def on_settings(self) -> None:
        """Nothing of a caller's settings is this end's affair alone."""

    def on_goaway(self, last: int, code: int) -> None:
        """A caller that leaves has begun all that it will."""

    def __repr__(self) -> str:
        return f"<Http2Server from {self.remote}, {len(self.streams)} streams>"
