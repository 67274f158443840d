"""Header fields over HTTP/2, and HPACK (RFC 7541) that does not work out again what it worked out for the call before.

Most fields of a message are those of the last one, and have the same bytes as long as nothing is added to the table of
the connection: so what differs from message to message is never added, and comes last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from hpack import Decoder, Encoder, HeaderTuple, NeverIndexedHeaderTuple, OversizedHeaderListError
from hpack.hpack import encode_integer
from hpack.table import HeaderTable

from micro_core import Head, Headers
from micro_transport_http.http1.parser import canonical_name
from micro_transport_http.http1.writer import OF_THE_CONNECTION, TOKEN, UNSAFE

__all__ = ["RepeatingDecoder", "RepeatingEncoder", "fields_of", "headers_of", "mended"]

_OF_ONE_MESSAGE = frozenset(b"authorization content-length cookie micro-error micro-id timeout traceparent".split())
"""What differs from message to message, or is a secret: never kept in the tables of either end (RFC 7541 §7.1.3)."""

_RUN = re.compile(rb"[\x81-\xfe]+")
"""Fields that are one byte each: their place in the table (RFC 7541 §6.1)."""
_LONGEST_RUN = 64
_MOST_RUNS = 64
_OVERHEAD = 32
"""What a field counts for beside its bytes (RFC 7541 §4.1)."""

Field = tuple[bytes, bytes]


class _Watch:
    """Tells whether something was added to a table, or left it."""

    def __init__(self, table: HeaderTable) -> None:
        self._entries = table.dynamic_entries
        self._newest: Field | None = None
        self._count = 0

    def has_changed(self) -> bool:
        """Tell whether it is another table than when this was asked last."""
        entries = self._entries
        newest = entries[0] if entries else None
        if newest is self._newest and len(entries) == self._count:
            return False
        self._newest, self._count = newest, len(entries)
        return True


class RepeatingEncoder(Encoder):
    """Writes what is in the table as it wrote it before."""

    def __init__(self) -> None:
        super().__init__()
        self._watch = _Watch(self.header_table)
        self._known: dict[Field, bytes] = {}
        """Bounded by what the table holds."""

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        """Return the block of a message's fields."""
        block: list[bytes] = []
        if self.table_size_changes:
            self.header_table.resized = True  # which hpack takes back where a size is set twice, and then says neither
            block.append(super().encode([]))
        if self._watch.has_changed():
            self._known.clear()
        for field in headers:
            if type(field) is NeverIndexedHeaderTuple:
                name, value = field
                block += (_never_indexed(name), _length(len(value)), value)
                continue
            encoded = self._known.get(field)
            if encoded is None:
                encoded = self.add(field, False, huffman)
                if self._watch.has_changed():
                    self._known.clear()
                elif encoded[0] & 0x80:  # its place in the table
                    self._known[field] = encoded
            block.append(encoded)
        return b"".join(block)


class RepeatingDecoder(Decoder):
    """Reads a run of fields that are in the table as it read it before."""

    def __init__(self) -> None:
        super().__init__()
        self._watch = _Watch(self.header_table)
        self._known: dict[bytes, tuple[list[HeaderTuple], int]] = {}

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Return the fields of a block. Raises `HPACKError`."""
        found = _RUN.match(data) if raw else None
        run = b"" if found is None else found[0]
        known = self._known.get(run)
        if known is None:
            fields = list(super().decode(data, raw))
            if self._watch.has_changed():
                self._known.clear()
            elif 0 < len(run) <= _LONGEST_RUN:
                if len(self._known) >= _MOST_RUNS:
                    self._known.clear()
                self._known[run] = fields[: len(run)], _size(fields[: len(run)])
            return fields
        rest = data[len(run) :]
        if rest and rest[0] & 0xE0 == 0x20:  # a new size of the table, in the wrong place
            return super().decode(data, raw)
        fields, size = known
        more = list(super().decode(rest, raw)) if rest else []
        if self._watch.has_changed():
            self._known.clear()
        if size + _size(more) > self.max_header_list_size:
            raise OversizedHeaderListError(f"a header list larger than {self.max_header_list_size} bytes")
        return [*fields, *more]


def _size(fields: Iterable[HeaderTuple]) -> int:
    return sum(len(name) + len(value) + _OVERHEAD for name, value in fields)


@lru_cache(maxsize=256)
def _never_indexed(name: bytes) -> bytes:
    """Return how a field begins that no table may keep (RFC 7541 §6.2.3)."""
    index = HeaderTable.STATIC_TABLE_MAPPING.get(name)
    start = encode_integer(0 if index is None else index[0], 4)
    start[0] |= 0x10
    return bytes(start) if index else bytes(start) + _length(len(name)) + name


def _length(size: int) -> bytes:
    return bytes((size,)) if size < 0x7F else bytes(encode_integer(size, 7))


def fields_of(first: Sequence[Field], head: Head, headers: Headers) -> list[Field]:
    """Return the fields of a message: ``first``, then ``head`` overlaid with ``headers``, names in lower case.

    What differs from message to message comes last.
    """
    merged = {**head.headers, **headers} if headers else head.headers
    stay: list[Field] = []
    vary: list[Field] = []
    for pair in first:
        if pair[0] in _OF_ONE_MESSAGE:
            vary.append(NeverIndexedHeaderTuple(*pair))
        else:
            stay.append(pair)
    for name, value in merged.items():
        if name in OF_THE_CONNECTION:
            continue
        low = _lower(name)
        if low in _OF_ONE_MESSAGE:
            vary.append(NeverIndexedHeaderTuple(low, value))
        else:
            stay.append((low, value))
    return stay + vary


def mended(fields: list[Field]) -> list[Field]:
    """Return fields without those whose names cannot be written, and with blanks for what their values may not hold."""
    return [field if _is_fit(field[1]) else _blanked(field) for field in fields if _is_name(field[0])]


def _is_fit(value: bytes) -> bool:
    return UNSAFE.search(value) is None and value == value.strip()


def _blanked(field: Field) -> Field:
    name, value = field[0], UNSAFE.sub(b" ", field[1]).strip()
    return NeverIndexedHeaderTuple(name, value) if isinstance(field, HeaderTuple) else (name, value)


@lru_cache(maxsize=4096)
def _is_name(name: bytes) -> bool:
    return TOKEN.fullmatch(name.removeprefix(b":")) is not None


def headers_of(fields: Any) -> tuple[Headers, Headers]:
    """Return the pseudo-headers and the headers of a message; of several of one name the first counts."""
    pseudo: Headers = {}
    headers: Headers = {}
    for name, value in fields:
        if name[:1] == b":":
            pseudo[bytes(name)] = bytes(value)
        else:
            headers.setdefault(canonical_name(bytes(name)), bytes(value))
    for name in (b"Content-Length", b"Host", b"Expect", b"Te", b"Trailer"):
        headers.pop(name, None)
    return pseudo, headers


_lower = lru_cache(maxsize=4096)(bytes.lower)
