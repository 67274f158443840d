"""An HTTP/2 connection as the listener sees it: each stream is a request, or carries the messages of a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import H2Error
from h2.settings import SettingCodes

from micro_core import Head, Headers, Limits, Request
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.http2.connection import STREAM_WINDOW, TUNNEL, H2Connected, StreamLink
from micro_transport_http.http2.fields import fields_of, headers_of, mended
from micro_transport_http.http2.floods import Floods
from micro_transport_http.io.link import Driver, Link

from .connection import ServerConnection
from .door import Door
from .request import ConnectionRequest

__all__ = ["H2Server"]

_logger = logging.getLogger("micro.transport.http")

_LINGER_SECONDS = 2.0


class H2Request(ConnectionRequest):
    """A request on a stream of its own."""

    __slots__ = ("parts", "size", "stream_id")

    parts: list[bytes]
    size: int
    stream_id: int


class H2Server(H2Connected):
    """Streams in, requests out, answers back."""

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
        self._receive = receive
        self._limits = limits
        self._local = local
        self._door = door
        self._ended = ended
        self._requests: dict[int, H2Request] = {}
        self._tunnels: set[ServerConnection] = set()
        self._floods = Floods(driver.time)
        self._head_since: float | None = driver.time()
        self._idle_since: float | None = None
        self._is_closing = False
        super().__init__(
            driver,
            link,
            is_client=False,
            settings={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.calls,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.headers,
            },
        )
        self._h2.decoder.max_header_list_size = limits.headers

    # ------------------------------------------------------------------------------------------ from the link

    def received(self, data: bytes) -> None:
        """Take bytes of the peer."""
        if self._is_closing and not self._requests and not self._links:
            return
        try:
            happened = self._h2.receive_data(data)
        except H2Error as error:
            self._give_up(f"it broke the protocol: {type(error).__name__}: {error}")
            return
        for event in happened:
            if (flood := self._floods.of(event)) is not None:
                self._calm(flood)
                return
            handle = _HANDLERS.get(type(event))
            if handle is not None:
                handle(self, event)
        if happened and not self._h2.incoming_buffer._headers_buffer:
            self._head_since = None
        elif self._head_since is None and self._h2.incoming_buffer._headers_buffer:
            self._head_since = self._driver.time()
        self.flush()

    def writable(self, writable: bool) -> None:
        """Go on where the peer takes answers again."""
        if writable:
            self.pump_all()

    def lost(self) -> None:
        """Give up everything: nobody is there any more."""
        self._abandon_all()
        self._ended(self)

    def drain(self) -> None:
        """Tell the peer to call elsewhere; what is under way goes on."""
        self.say_goodbye()

    def check(self, now: float) -> None:
        """Look, now and then, whether the peer takes too long."""
        for tunnel in list(self._tunnels):
            tunnel.check(now)
        if self._head_since is not None and now - self._head_since > self._limits.header_seconds:
            self._give_up(f"no complete headers within {self._limits.header_seconds:g} seconds")
        elif self._requests or self._links:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > self._limits.idle_seconds:
            self.say_goodbye()
            self._link.finish(_LINGER_SECONDS)

    def _give_up(self, why: str) -> None:
        _logger.info("refused %s: %s", self._link.remote, why)
        self._is_closing = True
        self.flush()
        self._abandon_all()
        self._link.finish(_LINGER_SECONDS)

    def _calm(self, flood: str) -> None:
        """End a connection that makes work and takes nothing (RFC 9113 §10.5)."""
        self.say_goodbye(ErrorCodes.ENHANCE_YOUR_CALM)
        self._give_up(f"too many frames of one kind: {flood}")

    def _abandon_all(self) -> None:
        links, self._links = self._links, {}
        for link in links.values():
            link.close()
        requests, self._requests = self._requests, {}
        for request in requests.values():
            request.give_up()

    # ------------------------------------------------------------------------------------------ requests

    def _on_request(self, event: events.RequestReceived) -> None:
        stream = event.stream_id
        assert stream is not None
        pseudo, headers = headers_of(event.headers)
        if pseudo.get(b":method") == b"CONNECT":
            self._refuse_stream(stream, Refusal(400, "no tunnels here"))
        elif headers.pop(b"Micro-Tunnel", None) is not None:
            self._open_tunnel(stream)
        elif (refusal := self._at_the_door(pseudo, headers)) is not None:
            self._refuse_stream(stream, refusal)
        elif headers.get(b"Micro-Stream") or headers.get(b"X-Micro-Stream"):
            self._refuse_stream(stream, Refusal(400, "a stream needs a tunnel of its own (docs/protocol.md)"))
        else:
            request = H2Request(headers, b"", local=self._local, remote=self._link.remote)
            request.peer = self._link.peer
            request.connection = self
            request.key = headers.get(b"Micro-Id", b"")
            request.stream_id = stream
            request.is_bodiless = pseudo.get(b":method") == b"HEAD"
            request.parts, request.size = [], 0
            self._requests[stream] = request

    def _at_the_door(self, pseudo: Headers, headers: Headers) -> Refusal | None:
        try:
            self._door.check(pseudo.get(b":method"), pseudo.get(b":authority"), headers)
        except Refusal as refusal:
            return refusal
        return None

    def _on_data(self, event: events.DataReceived) -> None:
        stream, size = event.stream_id, event.flow_controlled_length or 0
        assert stream is not None
        self.taken(size)
        link = self._links.get(stream)
        if link is not None:
            link.arrived(event.data or b"", size)
            return
        request = self._requests.get(stream)
        if request is None:
            return
        data = event.data or b""
        before, request.size = request.size, request.size + size
        if request.size > self._limits.body:
            del self._requests[stream]
            self._refuse_stream(stream, Refusal(413, f"the body is larger than {self._limits.body} bytes"))
            return
        request.parts.append(data)
        self.taken_in(stream, before, request.size)

    def _on_end(self, event: events.StreamEnded) -> None:
        stream = event.stream_id
        assert stream is not None
        link = self._links.get(stream)
        if link is not None:
            link.ended()
            return
        request = self._requests.get(stream)
        if request is None:
            return
        request.body = request.parts[0] if len(request.parts) == 1 else b"".join(request.parts)
        request.parts = []
        try:
            self._receive(request)
        except Exception:
            _logger.exception("the receiver of requests failed")
            self._link.close()

    def _on_reset(self, event: events.StreamReset) -> None:
        stream = event.stream_id
        assert stream is not None
        self._outgoing.pop(stream, None)
        link = self._links.pop(stream, None)
        if link is not None:
            link.close()
        request = self._requests.pop(stream, None)
        if request is not None:
            request.give_up()

    def _on_window(self, event: events.WindowUpdated | events.RemoteSettingsChanged) -> None:
        self.pump_all()

    def _open_tunnel(self, stream: int) -> None:
        link = StreamLink(self, self._driver, self._link, stream)
        self._links[stream] = link
        self._h2.send_headers(stream, [(b":status", b"200"), (TUNNEL, b"1")])

        def gone(tunnel: ServerConnection) -> None:
            self._tunnels.discard(tunnel)
            self._links.pop(stream, None)

        tunnel = ServerConnection(
            self._driver,
            link,
            self._receive,
            self._limits,
            local=self._local,
            multiplex=False,
            door=self._door,
            ended=gone,
        )
        link.owner = tunnel
        self._tunnels.add(tunnel)

    # ------------------------------------------------------------------------------------------ answers

    def answer(self, request: H2Request, head: Head, headers: Headers, body: bytes) -> None:
        """Write the answer to a request."""
        stream = request.stream_id
        self._requests.pop(stream, None)
        first = [(b":status", b"200"), (b"content-length", b"%d" % len(body))]
        if request.key:
            first.append((b"micro-id", request.key))
        self._send(stream, mended(fields_of(first, head, headers)), b"" if request.is_bodiless else body)

    def _send(self, stream: int, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        try:
            self._h2.send_headers(stream, fields, end_stream=not body)
        except (H2Error, KeyError):
            return
        if body:
            self.send_body(stream, body, ends=True)
        self.flush()

    def _refuse_stream(self, stream: int, refusal: Refusal) -> None:
        """Say what is wrong with one request; its neighbours go on."""
        _logger.info("refused %s: %d %s", self._link.remote, refusal.status, refusal.sentence)
        if (flood := self._floods.made()) is not None:
            self._calm(flood)
            return
        fields = [(b":status", b"%d" % refusal.status), (b"content-type", b"text/plain; charset=utf-8")]
        self._send(stream, fields, f"{refusal.sentence}\n".encode())
        if stream not in self._outgoing:
            self.reset(stream, ErrorCodes.NO_ERROR)

    def __repr__(self) -> str:
        return f"<H2Server from {self._link.remote}, {len(self._requests)} calls, {len(self._links)} streams>"


_HANDLERS: dict[type, Callable[[H2Server, Any], None]] = {
    events.RequestReceived: H2Server._on_request,
    events.DataReceived: H2Server._on_data,
    events.StreamEnded: H2Server._on_end,
    events.StreamReset: H2Server._on_reset,
    events.WindowUpdated: H2Server._on_window,
    events.RemoteSettingsChanged: H2Server._on_window,
}
