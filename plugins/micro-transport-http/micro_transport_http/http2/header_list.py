"""A message's fields once they are decoded: what is malformed, and what they say (RFC 9113 §8.2, §8.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from micro_core import Headers
from micro_transport_http.http1.parser import canonical_name

__all__ = ["OF_FRAMING", "OPENS_STREAM", "Malformed", "Start", "is_fit", "request_of", "response_of", "trailers_of"]

Field = tuple[bytes, bytes]

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_UNFIT = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")

_OF_HTTP1 = frozenset(b"connection keep-alive proxy-connection transfer-encoding upgrade".split())
"""What speaks of a connection, and makes a message malformed (RFC 9113 §8.2.2)."""
OF_FRAMING = frozenset(b"content-length cookie host expect te trailer".split())
"""Fields that are checked here and, but for the cookie, not handed on."""

OPENS_STREAM = frozenset([b"Micro-Stream", b"X-Micro-Stream"])
"""A request with one of these has messages of a stream for its body."""

_LENGTH = re.compile(rb"[0-9]{1,18}")


class Malformed(Exception):
    """Fields that make no message; the stream ends with it (RFC 9113 §8.1.1)."""


@dataclass(slots=True)
class Start:
    """What a message begins with, beside its headers. Shared by messages that begin alike: never changed."""

    method: bytes = b""
    path: bytes = b""
    host: bytes = b""
    """Whom the request is for: ``:authority``, or ``host`` where that is missing."""
    status: int = 0
    length: int | None = None
    """What ``content-length`` says."""
    is_call: bool = False
    """Whether it is a request with a body, or an answer, and nothing special."""
    is_let_in: bool = False
    """Whether the listener has looked at a request that began so."""


def is_fit(value: bytes) -> bool:
    """Tell whether a field may have this value (RFC 9113 §8.2.1)."""
    return value.isalnum() or _UNFIT.search(value) is None


@lru_cache(maxsize=4096)
def _is_name(name: bytes) -> bool:
    return _NAME.fullmatch(name) is not None and name not in _OF_HTTP1


def request_of(fields: Sequence[Field]) -> tuple[Start, Headers]:
    """Return how a request begins, and its headers. Raises `Malformed`."""
    pseudo, start, headers = _split(fields, (b":method", b":scheme", b":path", b":authority"))
    start.method = pseudo.get(b":method", b"")
    start.path = pseudo.get(b":path", b"")
    start.host = pseudo.get(b":authority") or start.host
    if not start.method:
        raise Malformed("a request without :method")
    if start.method == b"CONNECT":
        if len(pseudo) != 2 or b":authority" not in pseudo:
            raise Malformed("a CONNECT with more or less than :method and :authority")
    elif not (start.path and pseudo.get(b":scheme")):
        raise Malformed("a request without :path or :scheme")
    start.is_call = start.method == b"POST" and start.length is None and OPENS_STREAM.isdisjoint(headers)
    return start, headers


def response_of(fields: Sequence[Field]) -> tuple[Start, Headers]:
    """Return how a response begins, and its headers. Raises `Malformed`."""
    pseudo, start, headers = _split(fields, (b":status",))
    status = pseudo.get(b":status", b"")
    if not (len(status) == 3 and status.isdigit()) or status == b"101":
        raise Malformed("a response without a valid :status")
    start.status = int(status)
    start.is_call = start.status == 200 and start.length is None
    return start, headers


def trailers_of(fields: Sequence[Field]) -> None:
    """Check trailers, which are not handed on. Raises `Malformed`."""
    _split(fields, ())


def _split(fields: Sequence[Field], allowed: tuple[bytes, ...]) -> tuple[dict[bytes, bytes], Start, Headers]:
    """Return pseudo-headers, what the fields say about framing, and the other headers, the first of each name."""
    pseudo: dict[bytes, bytes] = {}
    start = Start()
    headers: Headers = {}
    in_front = True
    for name, value in fields:
        if name[:1] == b":":
            if not in_front or name not in allowed or name in pseudo:
                raise Malformed(f"{name!r} in a place of its own making")
            pseudo[name] = value
            continue
        in_front = False
        if not _is_name(name):
            raise Malformed(f"{name[:100]!r} is no name of a field")
        if not is_fit(value):
            raise Malformed(f"the value of {name[:100]!r} has what no value may have")
        if name in OF_FRAMING:
            _look_at(name, value, start, headers)
        else:
            headers.setdefault(canonical_name(name), value)
    return pseudo, start, headers


def _look_at(name: bytes, value: bytes, start: Start, headers: Headers) -> None:
    if name == b"content-length":
        if not _LENGTH.fullmatch(value) or start.length not in (None, int(value)):
            raise Malformed("a content-length that is none, or another one")
        start.length = int(value)
    elif name == b"cookie":
        before = headers.get(b"Cookie")
        headers[b"Cookie"] = value if before is None else before + b"; " + value
    elif name == b"host":
        start.host = start.host or value
    elif name == b"te" and value.lower() != b"trailers":
        raise Malformed("a te other than trailers")
