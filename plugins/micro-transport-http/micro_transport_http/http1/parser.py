"""The parser: httptools reads, and what it lets through is checked here, with a bound on everything.

httptools refuses lengths that are repeated, listed or no plain numbers, lengths beside a transfer coding, bare line
feeds, folded and malformed headers, control characters and odd chunk sizes. What it leaves to us: limits, repeated
`Host`, transfer codings other than ``chunked``, old versions, space at the end of values, trailers, and that it ends
every message with an `Upgrade` header at its head, though its body follows (RFC 9110 §7.8).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

from micro_core import Headers

from .refusal import STATUS, Refusal, is_call

__all__ = ["Received", "RequestParser", "ResponseParser", "canonical_name"]

_SLACK = 8 * 1024
"""How much a head may be larger on the wire than its names and values: the request line, blanks."""

_CHUNK_FRAMING = 64
"""Bytes of framing that a chunk may have on average, its extensions included, before it counts as an attack."""

_SLICE = 64 * 1024
"""What is parsed at once."""

_LONG_NAME = 128
"""Longer names are not kept in the cache, so that a stranger cannot fill the memory with it."""


class Received(Protocol):
    """Takes the messages of a parser."""

    def __call__(self, headers: Headers, body: bytes, /) -> None: ...


def _canonical_form(name: bytes) -> bytes:
    return b"-".join([part.capitalize() for part in name.split(b"-")])


_cached_form = lru_cache(maxsize=4096)(_canonical_form)


def canonical_name(name: bytes) -> bytes:
    """Return a header's name in Go's canonical form; short ones are kept."""
    return _cached_form(name) if len(name) < _LONG_NAME else _canonical_form(name)


class _AfterTheEnd(Exception):
    """Ends the reading of what a peer sends after its last message."""


class _Parser:
    """What requests and responses have in common; httptools calls the ``on_…`` methods."""

    _http: HttpRequestParser | HttpResponseParser

    def __init__(self, received: Received, *, headers: int, body: int) -> None:
        self._received = received
        self._header_limit = headers
        self._body_limit = body
        self.in_head = False
        """In the middle of a message's head."""
        self.ended = False
        """The peer said that this message is its last; nothing after it is looked at."""
        self._headers: Headers = {}
        self._head: Headers | None = None
        """The headers of a chunked message, kept apart from its trailers, which are for nobody."""
        self._size = 0
        self._body = b""
        self._parts: list[bytes] = []
        self._length = 0
        self._chunked = False
        self._chunks = 0
        self._wire = 0

    def feed(self, data: bytes) -> None:
        """Hand the messages in ``data`` to the receiver. Raises `Refusal`, and only that; nothing may follow it."""
        for at in range(0, len(data), _SLICE):
            self._feed(data[at : at + _SLICE] if len(data) > _SLICE else data)

    def _feed(self, data: bytes) -> None:
        while data and not self.ended:
            try:
                self._http.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = self._upgraded() + data[upgrade.args[0] :]
            except HttpParserError as error:
                self._stumbled(error)
                return
            else:
                if self.in_head or self._chunked:
                    self._watch(len(data))
                return

    def _stumbled(self, error: HttpParserError) -> None:
        """Raise what is wrong, unless it comes after the end, where nobody looks."""
        cause = error.__context__
        if isinstance(cause, Refusal):
            raise cause
        if not self.ended:
            raise Refusal(400, f"malformed HTTP: {error}") from None

    def _upgraded(self) -> bytes:
        """Begin anew after httptools ended a message at its head; return what to parse before the rest."""
        raise NotImplementedError

    def on_message_begin(self) -> None:
        if self.ended:
            raise _AfterTheEnd
        self.in_head = True
        self._wire = -1

    def on_header(self, raw: bytes, value: bytes) -> None:
        self._size += len(raw) + len(value) + 4
        if self._size > self._header_limit:
            raise self._too_many_headers()
        name = _cached_form(raw) if len(raw) < _LONG_NAME else _canonical_form(raw)
        if name not in self._headers:
            self._headers[name] = value.strip()
        elif name == b"Host" and self.in_head:
            raise Refusal(400, "more than one Host header")

    def on_body(self, part: bytes) -> None:
        self._length += len(part)
        if self._length > self._body_limit:
            raise self._too_large()
        if self._parts:
            self._parts.append(part)
        elif self._body:
            self._parts = [self._body, part]
        else:
            self._body = part

    @property
    def unfinished(self) -> int:
        """Bytes of the body of a message that is not complete."""
        return self._length

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def _take(self) -> tuple[Headers, bytes]:
        """Return the message that is complete, and be ready for the next."""
        headers, body = self._headers, self._body
        if self._head is not None:
            headers, self._head = self._head, None
        if self._parts:
            body = b"".join(self._parts)
            self._parts = []
        self._headers, self._body = {}, b""
        self._size = self._length = self._chunks = 0
        self._chunked = False
        return headers, body

    def _framing(self, headers: Headers) -> int | None:
        """Take the headers that say where the body ends; return its length, or None where only its end will tell."""
        length = headers.pop(b"Content-Length", None)
        if length is not None:
            if (size := int(length)) > self._body_limit:
                raise self._too_large()
            return size
        coding = headers.pop(b"Transfer-Encoding", None)
        if coding is not None:
            if coding.lower() != b"chunked":
                raise Refusal(400, "a Transfer-Encoding other than chunked")
            self._chunked = True
            if self._head is None:
                self._head, self._headers = headers, {}
        return None

    def _watch(self, fed: int) -> None:
        """Bound what httptools passes over without telling: endless lines, and chunks that are mostly framing."""
        if self._wire < 0:
            # The message began somewhere in what was fed; how much of that was its own is not known.
            self._wire = 0
            return
        self._wire += fed
        if self.in_head and self._wire > self._header_limit + _SLACK:
            raise self._too_many_headers()
        if self._chunked and self._wire - self._length - _CHUNK_FRAMING * self._chunks > self._header_limit + _SLACK:
            raise Refusal(400, "chunks with more framing than content")

    def _too_many_headers(self) -> Refusal:
        return Refusal(431, f"the headers are larger than {self._header_limit} bytes")

    def _too_large(self) -> Refusal:
        return Refusal(413, f"the body is larger than {self._body_limit} bytes")


class CheckHead(Protocol):
    """Raises `Refusal` for a head that is not let in, once it is complete."""

    def __call__(self, method: bytes | None, host: bytes | None, headers: Headers, /) -> None: ...


class RequestParser(_Parser):
    """Requests to ``received``; the attributes say of the latest one what is not in its headers."""

    def __init__(
        self,
        received: Received,
        expects: Callable[[], None] | None = None,
        *,
        headers: int,
        body: int,
        check: CheckHead | None = None,
    ) -> None:
        super().__init__(received, headers=headers, body=body)
        self._http: HttpRequestParser = HttpRequestParser(self)
        self._expects = expects
        self._check = check
        self._replay: bytes | None = None
        self._keep_alive = True
        self.without_body = False
        """The answer must not have a body (``HEAD``)."""

    def _upgraded(self) -> bytes:
        self._http = HttpRequestParser(self)
        return self._replay or b""

    def on_url(self, part: bytes) -> None:
        self._size += len(part)

    def on_headers_complete(self) -> None:
        headers = self._headers
        length = self._framing(headers)
        self.in_head = False
        if self._replay is not None:
            self._replay = None
            return
        host = headers.pop(b"Host", None)
        self._look_at(headers, length, host)
        if self._check is not None:
            self._check(self._http.get_method(), host, headers)
        self._continue_if_expected(headers)

    def _look_at(self, headers: Headers, length: int | None, host: bytes | None) -> None:
        """Take from a stranger's head what concerns the connection."""
        http = self._http
        version, method = http.get_http_version(), http.get_method()
        if version not in ("1.1", "1.0") or (version == "1.0" and self._chunked):
            raise Refusal(400, f"HTTP/{version} is not spoken here")
        if version == "1.1" and host is None:
            raise Refusal(400, "no Host header")
        if method == b"CONNECT":
            raise Refusal(400, "no tunnels here")
        self._keep_alive = version == "1.1" and http.should_keep_alive()
        self.without_body = method == b"HEAD"
        headers.pop(b"Connection", None)
        headers.pop(b"Upgrade", None)
        if http.should_upgrade():
            framing = b"Transfer-Encoding: chunked" if self._chunked else b"Content-Length: %d" % (length or 0)
            last = b"" if self._keep_alive else b"\r\nConnection: close"
            self._replay = b"POST / HTTP/1.1\r\n%b%b\r\n\r\n" % (framing, last)

    def _continue_if_expected(self, headers: Headers) -> None:
        expectation = headers.pop(b"Expect", None)
        if expectation is None or self._expects is None or self._http.get_http_version() != "1.1":
            return
        if expectation.lower() == b"100-continue":
            self._expects()

    @property
    def is_in_call(self) -> bool:
        """Whether the message that is being read says, as far as it was read, that it is a call."""
        return is_call(self._http.get_method(), self._headers if self._head is None else self._head)

    def on_message_complete(self) -> None:
        if self._replay is not None:
            return
        headers, body = self._take()
        self.ended = not self._keep_alive
        self._received(headers, body)
        self.without_body = False


class ResponseParser(_Parser):
    """Responses to ``received``, interim ones left out."""

    def __init__(self, received: Received, *, headers: int, body: int) -> None:
        super().__init__(received, headers=headers, body=body)
        self._http: HttpResponseParser = HttpResponseParser(self)
        self._keep_alive = True
        self.status = 200
        """Of the message that is handed on."""
        self._until_eof = False

    def _upgraded(self) -> bytes:
        self._http = HttpResponseParser(self)
        return b""

    def end(self) -> None:
        """Take note that the connection ended: a response without a length is complete now."""
        if self._until_eof:
            self._until_eof = False
            self.on_message_complete()

    def on_headers_complete(self) -> None:
        length = self._framing(self._headers)
        self.in_head = False
        self.status = status = self._http.get_status_code()
        if length is None and not self._chunked and status >= 200 and status not in (204, 304):
            self._until_eof = True
        self._keep_alive = status < 200 or self._http.should_keep_alive()
        if (refused := self._headers.get(STATUS)) is not None and refused.isdigit() and len(refused) == 3:
            self.status = int(refused) if int(refused) >= 400 else status

    def on_message_complete(self) -> None:
        headers, body = self._take()
        self._until_eof = False
        if 100 <= self.status < 200 and self.status != 101:
            return
        self.ended = not self._keep_alive
        self._received(headers, body)
        self.status = 200
