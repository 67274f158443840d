"""An HTTP/1.1 connection as the listener sees it: one call at a time, in order, or one stream (docs/wire.md §2).

    state   a request comes             its answer is given         it is refused           the caller is gone
    ------  --------------------------  --------------------------  ----------------------  ----------------------
    idle    a call: to call             -                           at once: to ending      -
            with Micro-Stream: to
            stream
    call    waits its turn, and         next in turn, or to idle;   after the answer that   the call is abandoned,
            reading pauses              the last one: to ending     is due: to ending       what waits is dropped
    stream  of the same stream: a       like a call's: to idle;     at once, and the        the stream fails; it
            message of it; any other    the stream is closed:       stream fails: to        is abandoned once all
            is refused with 400         to ending                   ending                  messages are taken
    ending  is not looked at, or is     -                           -                       -
            for nobody

Messages that come for a stream after its end are for nobody, in any state. "It is refused" stands for whatever is
malformed, too large, not let in by the door or not complete in time. A stream that is asked for behind a call waits
its turn too, but the connection is in the state of the stream from then on.

Who takes no answers gets no requests handed on and, outside of a stream, is not read: a stream's two directions are
independent, and it is read until its receiver is behind (`Http1ServerStream.is_full`). Only an idle connection is told
to go on by ``100 Continue``, and is closed after ``idle_seconds``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from micro_core import Head, Headers, Limits, Message, Request
from micro_transport_http.http1.parser import RequestParser
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http1.writer import ANSWER, safe_message
from micro_transport_http.io.link import Driver, Link

from .door import Door
from .http1_stream import Http1ServerStream
from .request import ConnectionRequest

__all__ = ["Http1Request", "Http1Server"]

_logger = logging.getLogger("micro.transport.http")

_LINGER_SECONDS = 2.0
"""Seconds that a refused peer has to read the reason."""

_SLICE = 64 * 1024
"""Bytes that are parsed at a time, before backpressure is looked at again."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_CLOSING_ANSWER = ANSWER + b"Connection: close\r\n"
_HANDSHAKE = b"\x16\x03"
_SPOKE_TLS = Refusal(400, "this port speaks clear text, and TLS came: it needs a certificate (docs/tls.md)")


class Http1Request(ConnectionRequest):
    """A request of an HTTP/1.1 connection."""

    __slots__ = ("is_last",)

    is_last: bool
    """The connection ends with its answer."""


class Http1Server:
    """Messages in, requests out, answers back."""

    def __init__(
        self,
        driver: Driver,
        link: Link,
        receive: Callable[[Request], None],
        limits: Limits,
        *,
        local: str,
        door: Door,
        ended: Callable[[Http1Server], None],
    ) -> None:
        self._driver = driver
        self._link = link
        self._receive = receive
        self._limits = limits
        self._local = local
        self._remote = link.remote
        self._peer = link.peer
        self._ended = ended
        self._parser = RequestParser(
            self._message, self._continue, headers=limits.headers, body=limits.body, check=door.check
        )
        self._call: Http1Request | None = None
        self._waiting: deque[Http1Request] = deque()
        self._stream: Http1ServerStream | None = None
        self._ended_mark = b""
        """Of the stream that was open last; what still comes with it is for nobody."""
        self._is_handing = False
        self._refusal: Refusal | None = None
        self._held = b""
        self.is_reading = True
        """What comes is taken; else it is held back, and the link paused."""
        self._is_feeding = False
        self._head_since: float | None = driver.time()
        self._idle_since: float | None = None

    # ------------------------------------------------------------------------------------------ from the link

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        self._idle_since = None
        if self._held or len(data) > _SLICE or not self.is_reading:
            self._held += data
            self._feed_held()
            return
        self._feed(data)
        if self._waiting or self._stream is not None:
            self.adjust_reading()

    def writable(self, writable: bool) -> None:
        """Take no further requests while answers are not taken."""
        if writable:
            self._hand_on()
        self.adjust_reading()

    def lost(self) -> None:
        """Give up everything: nobody is there any more."""
        self._held = b""
        self._abandon_calls()
        if self._stream is not None:
            self._stream.lost()
        self._ended(self)

    # ------------------------------------------------------------------------------------------ reading

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        self._is_feeding = True
        try:
            parser.feed(data)
        except Refusal as refusal:
            self._refuse(_SPOKE_TLS if data.startswith(_HANDSHAKE) else refusal)
        finally:
            self._is_feeding = False
        if not parser.in_head:
            self._head_since = None
        elif self._head_since is None:
            self._head_since = self._driver.time()

    def _feed_held(self) -> None:
        """Parse what was held back, slice by slice, as far as requests are taken."""
        view, at = self._held, 0
        while at < len(view) and not self._is_blocked:
            self._feed(view[at : at + _SLICE])
            at += _SLICE
        self._held = self._held[at:]
        self.adjust_reading()

    @property
    def _is_blocked(self) -> bool:
        if self._waiting:
            return True
        # A stream's two directions are independent; elsewhere, who takes no answers asks no more.
        return self._stream.is_full if self._stream is not None else not self._link.is_writable

    def adjust_reading(self) -> None:
        """Read on or pause, as those keep up who take what is read."""
        blocked = self._is_blocked
        if blocked and self.is_reading:
            self.is_reading = False
            self._link.pause()
        elif not blocked and not self.is_reading and not self._is_feeding:
            if self._held:
                self._feed_held()
            else:
                self.is_reading = True
                self._link.resume()

    def _continue(self) -> None:
        if self._call is None and self._stream is None:
            self._link.write(_CONTINUE)

    # ------------------------------------------------------------------------------------------ requests

    def _message(self, headers: Headers, body: bytes) -> None:
        self._head_since = None
        mark = headers.get(b"Micro-Stream") or headers.get(b"X-Micro-Stream") or b""
        if self._stream is not None:
            if (mark or headers.get(b"Micro-Id")) != self._stream.mark:
                raise Refusal(400, "a connection carries one stream, and nothing else meanwhile")
            self._stream.push(Message(headers, body))
            return
        if mark and mark == self._ended_mark:
            return
        request = self._request(headers, body, headers.get(b"Micro-Id", b""))
        request.is_last = self._parser.ended
        request.is_bodiless = self._parser.without_body
        if mark:
            self._stream = request.stream = Http1ServerStream(self, self._driver, self._link, request, mark)
        self._waiting.append(request)
        self._hand_on()

    def _request(self, headers: Headers, body: bytes, key: bytes) -> Http1Request:
        request = Http1Request(headers, body, local=self._local, remote=self._remote)
        request.connection = self
        request.key = key
        request.peer = self._peer
        request.received_at = self._driver.time()
        request.is_last = request.is_bodiless = False
        return request

    def _hand_on(self) -> None:
        """Hand on what waits, as far as allowed. An answer given at once comes back here: the outer loop goes on."""
        if self._is_handing:
            return
        self._is_handing = True
        try:
            while self._waiting and self._call is None and self._link.is_writable:
                self._call = request = self._waiting.popleft()
                self._hand(request)
        finally:
            self._is_handing = False

    def _hand(self, request: Http1Request) -> None:
        try:
            self._receive(request)
        except Exception:
            _logger.exception("the receiver of requests failed")
            self._link.close()

    # ------------------------------------------------------------------------------------------ answers

    def answer(self, request: Http1Request, head: Head, headers: Headers, body: bytes) -> None:
        """Write the answer to a request, and go on with the next."""
        data = safe_message(_CLOSING_ANSWER if request.is_last else ANSWER, head, request.key, headers, body)
        if request.is_bodiless and body:
            data = data[: -len(body)]
        self._link.write(data)
        if request.stream is not None:
            self._end_stream()
        self._answered(request)

    def _answered(self, request: Http1Request) -> None:
        """One call at a time: the next one, or the end."""
        self._call = None
        if request.is_last:
            self._link.finish(_LINGER_SECONDS)
        elif self._waiting:
            self._hand_on()
            self.adjust_reading()
        elif self._refusal is not None:
            self._send_refusal(self._refusal)
        else:
            self.adjust_reading()

    # ------------------------------------------------------------------------------------------ endings

    def stream_closed(self) -> None:
        """End with the stream, whose handler is done."""
        self._end_stream()
        self._call = None
        self._link.finish(_LINGER_SECONDS)

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._ended_mark = stream.mark
            stream.end()

    def _abandon_calls(self) -> None:
        for request in self._waiting:
            request.connection = None
        self._waiting.clear()
        call, self._call = self._call, None
        if call is not None and call.stream is None:
            call.give_up()

    def _refuse(self, refusal: Refusal) -> None:
        """Say what is wrong, after the answers that are due before, and end the connection."""
        self._parser.ended = True
        self._held = b""
        if self._call is not None and self._stream is None:
            self._refusal = refusal
        else:
            self._send_refusal(refusal)

    def _send_refusal(self, refusal: Refusal) -> None:
        _logger.info("refused %s: %d %s", self._remote, refusal.status, refusal.sentence)
        parser = self._parser
        if parser.is_in_call:
            self._link.write(refusal.encode_for_call())
        else:
            self._link.write(refusal.encode(bodiless=parser.without_body))
        self._abandon_calls()
        if self._stream is not None:
            self._stream.refused(refusal)
            self._end_stream()
        self._link.finish(_LINGER_SECONDS)

    @property
    def unfinished(self) -> int:
        """Bytes of a request that is not all here."""
        return self._parser.unfinished

    def cut_off(self, sentence: str) -> None:
        """Say why, and end the connection."""
        self._refuse(Refusal(503, sentence))

    def drain(self) -> None:
        """HTTP/1.1 has no word for it: who calls on is answered."""

    def check(self, now: float) -> None:
        """Look, now and then, whether the peer takes too long."""
        if self._head_since is not None and now - self._head_since > self._limits.header_seconds:
            self._head_since = None
            self._refuse(Refusal(408, f"no complete headers within {self._limits.header_seconds:g} seconds"))
        elif self._call is not None or self._stream is not None:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > self._limits.idle_seconds:
            self._link.close()

    def __repr__(self) -> str:
        state = "stream" if self._stream is not None else "idle" if self._call is None else "call"
        return f"<Http1Server from {self._remote}, {state}>"
