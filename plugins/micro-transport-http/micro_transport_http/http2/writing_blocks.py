"""Headers to HPACK blocks (RFC 7541), by the library hpack, but not again what was encoded for the message before.

What stays the same from message to message goes into the table of the connection until that is full, and nothing ever
leaves it: from then on the same headers are the same bytes. What differs is never added, and comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from hpack import Encoder
from hpack.hpack import encode_integer
from hpack.table import HeaderTable

from micro_core import EncodeError, Head, Headers
from micro_transport_http.http1.writer import OF_THE_CONNECTION, TOKEN, UNSAFE

__all__ = ["BlockWriter", "literals", "mended"]

_LEFT_OUT = OF_THE_CONNECTION - {b"Micro-Id"}

_OF_ONE_MESSAGE = frozenset(b"authorization cookie micro-error micro-id micro-stream timeout traceparent".split())
"""What differs from message to message, or is a secret: in the tables of neither end (RFC 7541 §7.1.3)."""
_MOST_HEADS = 1024
_TABLE = 4096
"""The largest table that we keep at the other end, in bytes."""
_OVERHEAD = 32
"""What a field counts for beside its bytes (RFC 7541 §4.1)."""

Field = tuple[bytes, bytes]


class BlockWriter:
    """The encoder of one connection, whose messages begin with the fields ``first``."""

    def __init__(self, first: Sequence[Field]) -> None:
        self._first = list(first)
        self._hpack = Encoder()
        self._room = _TABLE
        self.known: dict[Head, bytes] = {}
        """The blocks of heads that were written before."""

    def resize(self, size: int) -> None:
        """Keep to the table that the peer allows."""
        self._hpack.header_table_size = min(size, _TABLE)
        entries = self._hpack.header_table.dynamic_entries
        self._room = min(size, _TABLE) - sum(len(name) + len(value) + _OVERHEAD for name, value in entries)
        self.known.clear()

    def message(self, head: Head, headers: Headers) -> bytes:
        """Return the block of a message with the headers of ``head``, overlaid with ``headers``.

        It has to be sent, for the peer's table changes with it. Raises `EncodeError` for names that are no tokens and
        values that no field may have; then there is no block.
        """
        if not headers:
            return self.known.get(head) or self._head(head)
        if head.headers.keys().isdisjoint(headers):
            last = literals(headers)
            return (self.known.get(head) or self._head(head)) + last
        return self.block(self._first, {**head.headers, **headers})

    def _head(self, head: Head) -> bytes:
        room = self._room
        block = self.block(self._first, head.headers)
        if room == self._room:
            if len(self.known) >= _MOST_HEADS:
                self.known.clear()
            self.known[head] = block
        return block

    def block(self, first: Iterable[Field], headers: Headers) -> bytes:
        """Return the block of a message that is like no other. It has to be sent. Raises as `message` does."""
        stay: list[Field] = []
        last: list[bytes] = []
        for name, value in headers.items():
            if name in _LEFT_OUT:
                continue
            low = _lower(name)
            if low in _OF_ONE_MESSAGE:
                last.append(_literal(name, value))
            else:
                stay.append((low, _fit(name, value)))
        parts: list[bytes] = []
        if self._hpack.table_size_changes:
            self._hpack.header_table.resized = True  # which hpack takes back where a size is set twice
            parts.append(self._hpack.encode([]))
        parts += [self._indexed(field) for field in first]
        parts += [self._indexed(field) for field in stay]
        return b"".join(parts + last)

    def _indexed(self, field: Field) -> bytes:
        name, value = field
        found = self._hpack.header_table.search(name, value)
        if found is None or found[2] is None:
            size = len(name) + len(value) + _OVERHEAD
            if size > self._room:
                return _start(name) + _length(len(value)) + value
            self._room -= size
            self.known.clear()
        return self._hpack.add(field, False)


def literals(headers: Headers) -> bytes:
    """Return the fields of one message alone, as what may follow any block. Raises `EncodeError`."""
    if len(headers) == 1:
        timeout = headers.get(b"Timeout", b"")
        if timeout.isdigit() and len(timeout) < len(_TIMEOUTS):
            return _TIMEOUTS[len(timeout)] + timeout
    return b"".join([_literal(*item) for item in headers.items() if item[0] not in _LEFT_OUT])


def mended(headers: Headers) -> Headers:
    """Return headers without those whose names cannot be written, and with blanks for what values may not hold."""
    return {name: UNSAFE.sub(b" ", value) for name, value in headers.items() if TOKEN.fullmatch(name)}


def _literal(name: bytes, value: bytes) -> bytes:
    if not value.isalnum():
        value = _fit(name, value)
    return _start(name) + _length(len(value)) + value


def _fit(name: bytes, value: bytes) -> bytes:
    """Return a value without blanks at its ends. Raises `EncodeError`."""
    _start(name)
    if UNSAFE.search(value):
        raise EncodeError(f"header {name.decode('ascii', 'replace')} has a control character in its value")
    return value.strip()


@lru_cache(maxsize=1024)
def _start(name: bytes) -> bytes:
    """Return how a field begins that no table may keep (RFC 7541 §6.2.3)."""
    if not TOKEN.fullmatch(name.removeprefix(b":")):
        raise EncodeError(f"{name!r} is no header name")
    low = name.lower()
    index = HeaderTable.STATIC_TABLE_MAPPING.get(low)
    start = encode_integer(0 if index is None else index[0], 4)
    start[0] |= 0x10
    return bytes(start) if index else bytes(start) + _length(len(low)) + low


@lru_cache(maxsize=128)
def _length(size: int) -> bytes:
    return bytes(encode_integer(size, 7))


_lower = lru_cache(maxsize=4096)(bytes.lower)

_TIMEOUTS = tuple(_start(b"Timeout") + _length(size) for size in range(20))
"""How a Timeout begins, by the length of its value: most calls have nothing but that of their own."""
