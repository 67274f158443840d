"""HPACK blocks to headers (RFC 7541), by the library hpack, but not again what was decoded for the message before.

As long as nothing is added to the table of the connection the same bytes are the same fields. A block is known as a
whole, or but for the value of its last field, which our peers use for what differs from message to message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from micro_core import Headers
from micro_transport_http.http1.parser import canonical_name

from .broken import ConnectionBroken
from .frames import Code
from .header_list import OF_FRAMING, Start

__all__ = ["BlockReader", "TableWatch"]

Field = tuple[bytes, bytes]
Understand = Callable[[Sequence[Field]], tuple[Start, Headers]]

_MOST = 64
"""How many blocks of each kind are known at a time."""
_LONGEST = 1024
_SHORT = 0x7F
"""A value that is longer has its length in more bytes than one; it is decoded by hpack."""
_OVERHEAD = 32
"""What a field counts for beside its bytes (RFC 7541 §4.1)."""


class TableWatch:
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


class BlockReader:
    """The decoder of one connection. ``most`` is in bytes, as RFC 9113 §6.5.2 counts them."""

    def __init__(self, understand: Understand, most: int) -> None:
        self._understand = understand
        self._hpack = Decoder(most)
        self._most = most
        self._watch = TableWatch(self._hpack.header_table)
        self._known: dict[bytes, tuple[Start, Headers]] = {}
        self._but_last: list[tuple[bytes, int, bytes, Start, Headers]] = []
        """Blocks up to the last value, the size of that, the last name; the one that was met last comes first."""

    def known(self, block: bytes) -> tuple[Start, Headers] | None:
        """Return what a message begins with, if it begins as one before it did."""
        for known in self._but_last:
            before, size, name, start, headers = known
            if block.startswith(before) and len(block) > size:
                value = block[size + 1 :]
                if block[size] == len(value) < _SHORT and value.isalnum():
                    if known is not self._but_last[0]:
                        self._but_last.remove(known)
                        self._but_last.insert(0, known)
                    headers = headers.copy()
                    headers[name] = value
                    return start, headers
        found = self._known.get(block)
        return None if found is None else (found[0], found[1].copy())

    def read(self, block: bytes) -> tuple[Start, Headers]:
        """Return what a message begins with. Raises `ConnectionBroken`, or `Malformed` when the fields are."""
        return self.known(block) or self._decode(block)

    def fields(self, block: bytes) -> list[Field]:
        """Return the fields of a block. Raises `ConnectionBroken`: the two tables may differ from now on."""
        try:
            fields: list[Field] = list(self._hpack.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, f"headers larger than {self._most} bytes") from error
        except (HPACKError, IndexError, ValueError) as error:
            raise ConnectionBroken(Code.COMPRESSION_ERROR, f"a block that is no HPACK: {error}") from error
        if self._watch.has_changed():
            self._known.clear()
            self._but_last.clear()
        return fields

    def _decode(self, block: bytes) -> tuple[Start, Headers]:
        before = self._watch._newest, self._watch._count
        fields = self.fields(block)
        start, headers = self._understand(fields)
        resizes = bool(block) and block[0] & 0xE0 == 0x20
        if before == (self._watch._newest, self._watch._count) and len(block) <= _LONGEST and not resizes:
            self._learn(block, fields, start, headers)
        return start, headers

    def _learn(self, block: bytes, fields: list[Field], start: Start, headers: Headers) -> None:
        """Keep what a block was found to be, but for its last value where that stands there in clear."""
        name, value = fields[-1] if fields else (b"", b"")
        front = _front(block, name, value)
        if front is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[block] = start, headers.copy()
            return
        size = sum(len(each[0]) + len(each[1]) + _OVERHEAD for each in fields)
        key = canonical_name(name)
        if len(self._but_last) >= _MOST or size + _SHORT > self._most or headers.get(key) is not value:
            return
        if list(self._hpack.decode(front[0], raw=True)) == fields[:-1]:  # and so the rest is the last field
            self._but_last.insert(0, (front[1], len(front[1]), key, start, headers.copy()))


def _front(block: bytes, name: bytes, value: bytes) -> tuple[bytes, bytes] | None:
    """Return a block up to its last field and up to the last value, where that field is a literal with its name."""
    if not 0 < len(name) < _SHORT or not 0 < len(value) < _SHORT or name in OF_FRAMING or name[:1] == b":":
        return None
    tail = b"%c%b%c%b" % (len(name), name, len(value), value)
    at = len(block) - len(tail) - 1
    if at < 0 or not block.endswith(tail) or block[at] not in (0x00, 0x10):
        return None
    return block[:at], block[: len(block) - len(value) - 1]
