"""DNS messages: bytes to questions and records, and back; bounded, and deaf to what neither dialect uses."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from micro_core import DecodeError, EncodeError

__all__ = [
    "AAAA",
    "ANY",
    "AUTHORITATIVE",
    "IN",
    "PTR",
    "RESPONSE",
    "SRV",
    "TXT",
    "A",
    "Message",
    "Question",
    "ResourceRecord",
    "decode",
    "encode",
    "is_name",
]

A, PTR, TXT, AAAA, SRV, ANY = 1, 12, 16, 28, 33, 255
IN = 1
RESPONSE, AUTHORITATIVE = 0x8000, 0x0400

MAX_MESSAGE = 65_507  # what one UDP datagram over IPv4 can carry
MAX_RECORDS = 1_024
MAX_LABEL, MAX_NAME = 63, 255
MAX_POINTERS = 32

_HEADER = struct.Struct("!6H")
_FIXED = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHH")


@dataclass(frozen=True, slots=True)
class Question:
    """One question; `unicast` is the QU bit (RFC 6762 §5.4)."""

    name: str
    type: int
    unicast: bool = False
    class_: int = IN


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """One resource record.

    ``data`` depends on the type: PTR a name, SRV ``(priority, weight, port, target)``, A and AAAA an address as text,
    TXT and everything else the raw bytes.
    """

    name: str
    type: int
    ttl: int
    data: str | bytes | tuple[int, int, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A DNS message. Names end in a dot; a dot inside a label is written as a backslash and a dot."""

    id: int = 0
    flags: int = 0
    questions: tuple[Question, ...] = ()
    answers: tuple[ResourceRecord, ...] = ()
    authorities: tuple[ResourceRecord, ...] = ()
    additionals: tuple[ResourceRecord, ...] = ()

    @property
    def is_response(self) -> bool:
        """Whether the QR bit is set."""
        return bool(self.flags & RESPONSE)

    @property
    def is_plain(self) -> bool:
        """Whether opcode and rcode are zero; all others are to be ignored (RFC 6762 §18.3, §18.11)."""
        return not self.flags & 0x780F


def is_name(name: str) -> bool:
    """Return whether ``name``, which ends in a dot, can be written: labels of 1 to 63 bytes, 255 in all."""
    labels = name.encode().split(b".")
    fits = all(0 < len(label) <= MAX_LABEL for label in labels[:-1])
    return fits and not labels[-1] and len(name.encode()) < MAX_NAME


# ------------------------------------------------------------------------------------------------------ reading


def decode(packet: bytes) -> Message:
    """Return the message in ``packet``; bytes after its end are ignored. Raises `DecodeError`."""
    try:
        return _Decoder(packet).message()
    except (struct.error, IndexError) as error:
        raise DecodeError("DNS message ends too early") from error


class _Decoder:
    def __init__(self, packet: bytes) -> None:
        self._packet = packet
        self._at = 0
        self._names: dict[int, str] = {}

    def message(self) -> Message:
        id_, flags, *counts = _HEADER.unpack_from(self._packet)
        self._at = _HEADER.size
        if sum(counts) > MAX_RECORDS or sum(counts) * 5 > len(self._packet):
            raise DecodeError(f"DNS message claims {sum(counts)} questions and records")
        questions = tuple(self._question() for _ in range(counts[0]))
        answers, authorities, additionals = (tuple(self._record() for _ in range(count)) for count in counts[1:])
        return Message(
            id=id_,
            flags=flags,
            questions=questions,
            answers=answers,
            authorities=authorities,
            additionals=additionals,
        )

    def _question(self) -> Question:
        name = self._name()
        type_, class_ = struct.unpack_from("!HH", self._packet, self._at)
        self._at += 4
        return Question(name, type_, bool(class_ & 0x8000), class_ & 0x7FFF)

    def _record(self) -> ResourceRecord:
        name = self._name()
        type_, _class, ttl, length = _FIXED.unpack_from(self._packet, self._at)
        self._at += _FIXED.size
        end = self._at + length
        if end > len(self._packet):
            raise DecodeError("DNS record is longer than its message")
        data = self._rdata(type_, length)
        self._at = end
        return ResourceRecord(name, type_, ttl, data)

    def _rdata(self, type_: int, length: int) -> str | bytes | tuple[int, int, int, str]:
        raw = self._packet[self._at : self._at + length]
        if type_ == PTR:
            return self._name()
        if type_ == SRV:
            priority, weight, port = _SRV.unpack_from(raw)
            self._at += _SRV.size
            return priority, weight, port, self._name()
        if type_ == A and length == 4:
            return str(ipaddress.IPv4Address(raw))
        if type_ == AAAA and length == 16:
            return str(ipaddress.IPv6Address(raw))
        if type_ in (A, AAAA):
            raise DecodeError(f"DNS address record of {length} bytes")
        return raw

    def _name(self) -> str:
        """Read a name, following at most 32 pointers, each of which points backwards (RFC 1035 §4.1.4)."""
        start = at = self._at
        if start in self._names:
            self._at = start + 2 if self._packet[start] >= 0xC0 else self._end_of_name(start)
            return self._names[start]
        labels: list[str] = []
        size, pointers, after = 1, 0, -1
        while length := self._packet[at]:
            if length >= 0xC0:
                target = struct.unpack_from("!H", self._packet, at)[0] & 0x3FFF
                after = at + 2 if after < 0 else after
                pointers += 1
                if target >= at or pointers > MAX_POINTERS:
                    raise DecodeError("DNS name with a compression loop")
                at = target
                continue
            size += length + 1
            if length > MAX_LABEL or size > MAX_NAME:
                raise DecodeError("DNS name too long")
            label = self._packet[at + 1 : at + 1 + length]
            if len(label) < length:
                raise DecodeError("DNS message ends too early")
            labels.append(label.decode(errors="replace").replace(".", "\\."))
            at += length + 1
        self._at = at + 1 if after < 0 else after
        name = self._names[start] = ".".join(labels) + "."
        return name

    def _end_of_name(self, at: int) -> int:
        while 0 < self._packet[at] < 0xC0:
            at += self._packet[at] + 1
        return at + (2 if self._packet[at] else 1)


# ------------------------------------------------------------------------------------------------------ writing


def encode(message: Message) -> bytes:
    """Return ``message`` in one packet, names compressed save the targets of SRV records.

    Raises `EncodeError` where a name or the whole does not fit.
    """
    return _Encoder().message(message)


class _Encoder:
    def __init__(self) -> None:
        self._out = bytearray()
        self._names: dict[str, int] = {}

    def message(self, message: Message) -> bytes:
        sections: Sequence[Sequence[ResourceRecord]] = (message.answers, message.authorities, message.additionals)
        counts = (len(message.questions), *map(len, sections))
        self._out += _HEADER.pack(message.id, message.flags, *counts)
        for question in message.questions:
            self._name(question.name)
            self._out += struct.pack("!HH", question.type, question.class_ | 0x8000 * question.unicast)
        self._records(record for section in sections for record in section)
        if len(self._out) > MAX_MESSAGE:
            raise EncodeError(f"DNS message of {len(self._out)} bytes; one datagram holds {MAX_MESSAGE}")
        return bytes(self._out)

    def _records(self, records: Iterable[ResourceRecord]) -> None:
        for record in records:
            self._name(record.name)
            start = len(self._out) + _FIXED.size
            self._out += bytes(_FIXED.size)
            self._rdata(record)
            length = len(self._out) - start
            if length > 0xFFFF:
                raise EncodeError(f"DNS record of {length} bytes; at most 65535 fit")
            _FIXED.pack_into(self._out, start - _FIXED.size, record.type, IN, record.ttl, length)

    def _rdata(self, record: ResourceRecord) -> None:
        match record.data:
            case (priority, weight, port, target):
                self._out += _SRV.pack(priority, weight, port)
                self._name(target, compress=False)
            case bytes(raw):
                self._out += raw
            case str(text) if record.type == PTR:
                self._name(text)
            case text:
                self._out += ipaddress.ip_address(text).packed

    def _name(self, name: str, *, compress: bool = True) -> None:
        if name != "." and not is_name(name):
            raise EncodeError(f"{name!r} is no DNS name: a label holds 1 to {MAX_LABEL} bytes, a name {MAX_NAME}")
        rest = name
        while rest and rest != ".":
            if compress and rest in self._names:
                self._out += struct.pack("!H", 0xC000 | self._names[rest])
                return
            if compress and len(self._out) < 0x4000:
                self._names[rest] = len(self._out)
            label, _, rest = rest.partition(".")
            self._out.append(len(label.encode()))
            self._out += label.encode()
        self._out.append(0)
