"""Messages of a stream inside DATA, each with its length before it (docs/protocol.md §2.3)."""

from __future__ import annotations

from collections import deque
from struct import Struct

from micro_core import Headers, Message
from micro_transport_http.http1.parser import canonical_name

__all__ = ["PREFIX_SIZE", "MessageBuffer", "NotAMessage", "packed", "prefix"]

_PREFIX = Struct(">BI")
PREFIX_SIZE = 5
_NAME = Struct(">H")
_VALUE = Struct(">I")

_BODY, _WITH_HEADERS = 0, 1
"""A body alone, whose headers are those that the stream's began with; and headers of its own, then the body."""

_pack_prefix = _PREFIX.pack
_unpack_prefix = _PREFIX.unpack_from


class NotAMessage(Exception):
    """What came is none, or too large; ``status`` is what HTTP calls it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


def prefix(size: int) -> bytes:
    """Return what goes before a body of so many bytes, whose headers are those that the messages began with."""
    return _pack_prefix(_BODY, size)


def packed(headers: Headers | None, body: bytes) -> bytes:
    """Return a message; without headers it has those that the stream's messages began with."""
    if headers is None:
        return _pack_prefix(_BODY, len(body)) + body
    fields = [_NAME.pack(len(name)) + name + _VALUE.pack(len(value)) + value for name, value in headers.items()]
    block = b"".join(fields)
    return b"".join([_pack_prefix(_WITH_HEADERS, 4 + len(block) + len(body)), _VALUE.pack(len(block)), block, body])


class MessageBuffer:
    """The bytes that arrived on a stream and were not taken yet. ``headers`` and ``body`` bound a message, in bytes."""

    def __init__(self, *, headers: int, body: int) -> None:
        self.headers: Headers = {}
        """Those of messages that bring none."""
        self._most_headers = headers
        self._most_body = body
        self._data = b""
        self._at = 0
        self._more: deque[bytes] = deque()
        self.size = 0
        """Bytes that are here."""
        self.taken = 0
        """Bytes that were taken and that the peer was not allowed again."""
        self.wanted = PREFIX_SIZE
        """Bytes that the next message needs to be whole, as far as is known."""

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer."""
        if self.size == 0:
            self._data, self._at = data, 0
        else:
            self._more.append(data)
        self.size += len(data)

    def next(self) -> Message | None:
        """Return the next message, None where it is not all here. Raises `NotAMessage`."""
        data, at = self._data, self._at
        there = len(data) - at
        if there >= PREFIX_SIZE:  # the usual case, that the next is here as it should be, before all others
            kind, length = _unpack_prefix(data, at)
            if kind == _BODY and length <= there - PREFIX_SIZE and length <= self._most_body:
                self._at = end = at + PREFIX_SIZE + length
                self.size -= PREFIX_SIZE + length
                self.taken += PREFIX_SIZE + length
                self.wanted = PREFIX_SIZE
                return Message(self.headers, data[at + PREFIX_SIZE : end])
        if self.size < self.wanted or not self.is_whole():
            return None
        data, at, wanted = self._data, self._at, self.wanted
        end = at + wanted
        body = data[at + PREFIX_SIZE : end]
        self._at = end
        self.size -= wanted
        self.taken += wanted
        self.wanted = PREFIX_SIZE
        if data[at] == _BODY:
            return Message(self.headers, body)
        return self._with_headers(body)

    def is_whole(self) -> bool:
        """Tell whether the next message is all here. Raises `NotAMessage`."""
        if self.size < PREFIX_SIZE:
            return False
        if len(self._data) - self._at < PREFIX_SIZE:
            self._gather()
        kind, length = _unpack_prefix(self._data, self._at)
        if kind > _WITH_HEADERS:
            raise NotAMessage(400, f"a message of the unknown kind {kind}")
        self.wanted = PREFIX_SIZE + length
        if kind == _WITH_HEADERS and length >= _VALUE.size:
            if self.size < PREFIX_SIZE + _VALUE.size:
                return False
            if len(self._data) - self._at < PREFIX_SIZE + _VALUE.size:
                self._gather()
            block: int = _VALUE.unpack_from(self._data, self._at + PREFIX_SIZE)[0]
            if block > self._most_headers:
                raise NotAMessage(431, f"the headers are larger than {self._most_headers} bytes")
            length -= _VALUE.size + block
        if length > self._most_body:
            raise NotAMessage(413, f"the body is larger than {self._most_body} bytes")
        if self.size < self.wanted:
            return False
        if len(self._data) - self._at < self.wanted:
            self._gather()
        return True

    def clear(self) -> None:
        """Drop what is here."""
        self.taken += self.size
        self._data, self._at, self.size, self.wanted = b"", 0, 0, PREFIX_SIZE
        self._more.clear()

    def _gather(self) -> None:
        self._data = b"".join([self._data[self._at :], *self._more])
        self._at = 0
        self._more.clear()

    def _with_headers(self, data: bytes) -> Message:
        at = _VALUE.size
        if len(data) < at:
            raise NotAMessage(400, "headers that are cut off")
        end = at + _VALUE.unpack_from(data)[0]
        headers: Headers = {}
        try:
            while at < end:
                name, at = _part(data, at, end, _NAME)
                value, at = _part(data, at, end, _VALUE)
                headers.setdefault(canonical_name(name), value)
        except (IndexError, ValueError):
            raise NotAMessage(400, "headers that are cut off") from None
        if end > len(data):
            raise NotAMessage(400, "headers that are cut off")
        return Message(headers, data[end:])


def _part(data: bytes, at: int, end: int, length: Struct) -> tuple[bytes, int]:
    """Return a name or value with its length before it, and where the next begins. Raises `ValueError`."""
    begins = at + length.size
    if begins > end:
        raise ValueError
    stops = begins + length.unpack_from(data, at)[0]
    if stops > min(end, len(data)):
        raise ValueError
    return data[begins:stops], stops
