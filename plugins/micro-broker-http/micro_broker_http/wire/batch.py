"""Batches and their acknowledgements, as our own peers exchange them (docs/protocol.md §7). Bytes in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec

from micro_core import DecodeError, Message, ProtocolError

__all__ = ["ACKS_TYPE", "BATCH_TYPE", "MAX_BATCH", "PATH", "AckReader", "Batch", "Item", "decode_batch", "encode_batch"]

PATH = "/_micro/1/batch"
BATCH_TYPE = b"application/vnd.micro.batch.v1+msgpack"
ACKS_TYPE = b"application/vnd.micro.acks.v1"
MAX_BATCH = 256
"""Messages in a batch."""
_LONGEST_LINE = 8


class Item(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One message of a batch."""

    number: Annotated[int, msgspec.Meta(ge=0)]
    headers: dict[bytes, bytes]
    body: bytes


class Batch(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """Messages of one publisher, oldest first."""

    publisher: Annotated[bytes, msgspec.Meta(min_length=8, max_length=32)]
    items: Annotated[list[Item], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


_decoder = msgspec.msgpack.Decoder(Batch)
_encoder = msgspec.msgpack.Encoder()


def encode_item(number: int, message: Message) -> bytes:
    """Return one message as it lies in a batch, so that it is encoded once for all subscribers."""
    return _encoder.encode((number, message.headers, message.body))


def encode_batch(publisher: bytes, items: Sequence[bytes]) -> bytes:
    """Return the body of a batch from items that `encode_item` made."""
    return _encoder.encode((publisher, [msgspec.Raw(item) for item in items]))


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
        self.acknowledged = self._number(line, low=self.acknowledged)

    def _number(self, line: bytes, low: int) -> int:
        if not line.isdigit() or len(line) > _LONGEST_LINE or not low <= int(line) <= self.size:
            raise ProtocolError(f"{line[:40]!r} acknowledges nothing in a batch of {self.size} messages")
        return int(line)
