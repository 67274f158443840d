"""The serializer: constant headers are encoded once, and no header can smuggle in another message."""

from __future__ import annotations

import logging
import re
from functools import lru_cache

from micro_core import EncodeError, Head, Headers

__all__ = ["ANSWER", "OF_THE_CONNECTION", "TOKEN", "UNSAFE", "message", "request_line", "safe_message"]

ANSWER = b"HTTP/1.1 200 OK\r\n"
"""Every answer to a call has status 200 (docs/wire.md §2.1)."""

_logger = logging.getLogger("micro.transport.http")

OF_THE_CONNECTION = frozenset(
    [
        b"Connection",
        b"Content-Length",
        b"Expect",
        b"Host",
        b"Keep-Alive",
        b"Micro-Id",
        b"Proxy-Connection",
        b"Te",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
    ]
)
"""Names that belong to the connection: written by the transport, and left out where a message carries them."""

TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
UNSAFE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def request_line(address: str) -> bytes:
    """Return the lines that every request to ``address`` starts with."""
    return b"POST / HTTP/1.1\r\nHost: %b\r\n" % address.encode("ascii")


def message(start: bytes, head: Head, id: bytes, headers: Headers, body: bytes) -> bytes:
    """Return a message: ``start``, its ``Micro-Id`` (none where empty), ``head`` overlaid with ``headers``, ``body``.

    Raises `EncodeError` for names that are no tokens and values with control characters.
    """
    lines: bytes | None = head.encoded
    if lines is None:
        lines = head.encoded = _lines(head.headers)
    if headers:
        if head.headers.keys().isdisjoint(headers):
            lines += _lines(headers)
        else:
            lines = _lines({**head.headers, **headers})
    if id:
        return b"%bMicro-Id: %b\r\n%bContent-Length: %d\r\n\r\n%b" % (start, id, lines, len(body), body)
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (start, lines, len(body), body)


def safe_message(start: bytes, head: Head, id: bytes, headers: Headers, body: bytes) -> bytes:
    """Return a message as `message` does; what cannot be written becomes blank, as Go does it (docs/wire.md §2.1)."""
    try:
        return message(start, head, id, headers, body)
    except EncodeError as error:
        _logger.warning("an answer was mended: %s", error)
    merged = {**head.headers, **headers}
    fit = {name: UNSAFE.sub(b" ", value) for name, value in merged.items() if TOKEN.fullmatch(name)}
    return message(start, Head(fit), UNSAFE.sub(b" ", id), {}, body)


def _lines(headers: Headers) -> bytes:
    if len(headers) == 1:  # Timeout, nearly always
        ((name, value),) = headers.items()
        if value.isalnum() and name not in OF_THE_CONNECTION:
            return _start(name) + value + b"\r\n"
    lines = [_start(name) + value + b"\r\n" for name, value in headers.items() if name not in OF_THE_CONNECTION]
    block = b"".join(lines)
    if all(map(bytes.isalnum, headers.values())):
        return block
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or _CONTROL.search(block):
        wrong = next(name for name, value in headers.items() if UNSAFE.search(value))
        raise EncodeError(f"header {wrong.decode('ascii', 'replace')} has a control character in its value")
    return block


@lru_cache(maxsize=1024)
def _start(name: bytes) -> bytes:
    if not TOKEN.fullmatch(name):
        raise EncodeError(f"{name!r} is no header name")
    return name + b": "
