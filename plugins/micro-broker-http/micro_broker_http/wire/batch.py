"""Batches and their acknowledgements, as our own peers exchange them (docs/protocol.md §7). Bytes in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from micro_core import DecodeError, Delivery, Message, ProtocolError
from micro_core.delivery import Again

__all__ = [
    "ACKS_TYPE",
    "BATCH_TYPE",
    "MAX_BATCH",
    "PATH",
    "AckReader",
    "Batch",
    "Item",
    "again_line",
    "decode_batch",
    "encode_batch",
]

PATH = "/_micro/1/batch"
BATCH_TYPE = b"application/vnd.micro.batch.v1+msgpack"
ACKS_TYPE = b"application/vnd.micro.acks.v1"
MAX_BATCH = 256
"""Messages in a batch."""
_LONGEST_LINE = 32
_LONGEST_NUMBER = 10


class Item(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One message of a batch."""

    number: Annotated[int, msgspec.Meta(ge=0)]
    headers: dict[bytes, bytes]
    body: bytes
    time: float = 0.0
    """When it was published, in seconds since 1970."""
    attempt: Annotated[int, msgspec.Meta(ge=1)] = 1
    """How often it will have been handed to a handler, this time included."""
    redelivered: bool = False
    """Whether it may have been handed to one before."""

    def delivery(self, publisher: str) -> Delivery:
        """Return what the subscriber is told of its coming; ``publisher`` in hexadecimal."""
        id = f"{publisher}-{self.number}"
        return Delivery(id=id, time=self.time, attempt=self.attempt, redelivered=self.redelivered)


class Batch(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Messages of one publisher, oldest first."""

    publisher: Annotated[bytes, msgspec.Meta(min_length=8, max_length=32)]
    items: Annotated[list[Item], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


_decoder = msgspec.msgpack.Decoder(Batch)
_encoder = msgspec.msgpack.Encoder()


def encode_item(number: int, message: Message, time: float = 0.0, attempt: int = 1, redelivered: bool = False) -> bytes:
    """Return one message as it lies in a batch, so that it is encoded once for all subscribers."""
    item = (number, message.headers, message.body)
    if redelivered:
        return _encoder.encode((*item, time, attempt, redelivered))
    return _encoder.encode((*item, time) if time else item)


def encode_batch(publisher: bytes, items: Sequence[bytes]) -> bytes:
    """Return the body of a batch from items that `encode_item` made."""
    return _encoder.encode((publisher, [msgspec.Raw(item) for item in items]))


def again_line(number: int, again: Again) -> bytes:
    """Return the line of an answer that has message ``number``, counted from 1, sent again."""
    milliseconds = min(round(again.after * 1000), 10**_LONGEST_NUMBER - 1)
    return b"~%d %d %d\n" % (number, again.attempt, milliseconds)


def decode_batch(data: bytes) -> Batch:
    """Return what a batch's body says. Raises `DecodeError`, also for a body that is cut short or too long."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DecodeError(f"the body is no batch: {error}") from error


class AckReader:
    """Reads the answer to a batch: bytes in, the number of acknowledged messages out."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.acknowledged = 0
        self.given_up: set[int] = set()
        """The messages, counted from 0, that were handled in vain."""
        self.again: dict[int, Again] = {}
        """Those, counted likewise, that are to be sent again."""
        self.room = False
        """Whether the subscriber could handle more messages meanwhile."""
        self.left = False
        """Whether the subscription will handle nothing more."""
        self._rest = b""

    @property
    def complete(self) -> bool:
        """Whether every message is acknowledged."""
        return self.acknowledged == self.size

    def feed(self, data: bytes) -> int:
        """Take a piece of the answer and return how many messages are acknowledged now. Raises `ProtocolError`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._read(line)
        if len(self._rest) > _LONGEST_LINE:
            raise ProtocolError(f"a line of the answer to a batch is longer than {_LONGEST_LINE} bytes")
        return self.acknowledged

    def _read(self, line: bytes) -> None:
        if not line:
            return
        if line == b"+":
            self.room = True
            return
        if line == b"-":
            self.left = True
            return
        if line[:1] == b"!":
            self.given_up.add(self._number(line[1:], low=1) - 1)
            return
        if line[:1] == b"~":
            self._read_again(line)
            return
        self.acknowledged = self._number(line, low=self.acknowledged)

    def _read_again(self, line: bytes) -> None:
        fields = line[1:].split(b" ")
        if len(fields) != 3 or not all(field.isdigit() and len(field) <= _LONGEST_NUMBER for field in fields):
            raise ProtocolError(f"{line[:40]!r} does not say what is to be sent again")
        index = self._number(fields[0], low=1) - 1
        self.again[index] = Again(attempt=max(1, int(fields[1])), after=int(fields[2]) / 1000)

    def _number(self, line: bytes, low: int) -> int:
        if not line.isdigit() or len(line) > _LONGEST_NUMBER or not low <= int(line) <= self.size:
            raise ProtocolError(f"{line[:40]!r} acknowledges nothing in a batch of {self.size} messages")
        return int(line)
