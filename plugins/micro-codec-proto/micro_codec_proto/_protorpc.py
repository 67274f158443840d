"""The proto-rpc envelope of legacy peers: one length and envelope, one length and message (docs/wire.md §3.5)."""

from __future__ import annotations

import struct

from micro_core import DecodeError, Framing

__all__ = ["ProtoRpcFraming"]

_LENGTH = struct.Struct(">I")
_FIXED64 = struct.Struct("<Q")
_VARINT, _I64, _TEXT, _I32 = 0, 1, 2, 5
"""The wire types of protobuf that an envelope may hold; groups are none of them."""
_ENDPOINT, _ID, _ERROR = 1, 2, 3
"""The field numbers of both envelopes; a request has no error."""

_LONGEST_VARINT = 10


class ProtoRpcFraming(Framing):
    """Writes every field, as Go Micro v1 does, and reads envelopes that leave out zero values, as v5 writes them."""

    def pack_request(self, endpoint: str, id: int, body: bytes) -> bytes:
        return _packed(_text(_ENDPOINT, endpoint) + _number(id)) + _packed(body)

    def unpack_request(self, message: bytes) -> tuple[str, int, bytes]:
        envelope, body = _unpacked(message)
        endpoint, id, _ = _read(envelope)
        return endpoint, id, body

    def pack_reply(self, endpoint: str, id: int, body: bytes, error: str) -> bytes:
        if error:
            id, body = 0, b""
        return _packed(_text(_ENDPOINT, "") + _number(id) + _text(_ERROR, error)) + _packed(body)

    def unpack_reply(self, message: bytes) -> tuple[int, bytes, str]:
        envelope, body = _unpacked(message)
        _, id, error = _read(envelope)
        return id, b"" if error else body, error


def _packed(part: bytes) -> bytes:
    return _LENGTH.pack(len(part)) + part


def _unpacked(message: bytes) -> tuple[bytes, bytes]:
    envelope, rest = _cut(message, 0)
    body, end = _cut(message, rest)
    if end != len(message):
        raise DecodeError(f"malformed proto-rpc message: {len(message) - end} bytes after its end")
    return envelope, body


def _cut(message: bytes, start: int) -> tuple[bytes, int]:
    """Return one part and where the next begins. A slice is as long as what is there, whatever length is claimed."""
    begin = start + _LENGTH.size
    if begin > len(message):
        raise DecodeError("malformed proto-rpc message: it ends within a length")
    end = begin + _LENGTH.unpack_from(message, start)[0]
    if end > len(message):
        raise DecodeError(f"malformed proto-rpc message: it ends {end - len(message)} bytes too soon")
    return message[begin:end], end


def _text(field: int, text: str) -> bytes:
    encoded = text.encode(errors="replace")
    return bytes([field << 3 | _TEXT]) + _varint(len(encoded)) + encoded


def _number(id: int) -> bytes:
    return bytes([_ID << 3 | _I64]) + _FIXED64.pack(id)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read(envelope: bytes) -> tuple[str, int, str]:
    """Return endpoint, id and error of an envelope; fields that it leaves out are zero, unknown ones are skipped."""
    values: dict[int, bytes] = {}
    at = 0
    while at < len(envelope):
        tag, at = _read_varint(envelope, at)
        field, kind = tag >> 3, tag & 7
        end = _end_of_field(envelope, at, kind)
        if field == 0 or end[1] > len(envelope):
            raise DecodeError("malformed proto-rpc envelope")
        if kind == (_I64 if field == _ID else _TEXT):
            values[field] = envelope[end[0] : end[1]]
        at = end[1]
    id = _FIXED64.unpack(values.get(_ID, bytes(8)))[0]
    try:
        return values.get(_ENDPOINT, b"").decode(), id, values.get(_ERROR, b"").decode()
    except UnicodeDecodeError as error:
        raise DecodeError("malformed proto-rpc envelope: a text is no UTF-8") from error


def _end_of_field(envelope: bytes, at: int, kind: int) -> tuple[int, int]:
    """Return where the value begins and ends."""
    if kind == _VARINT:
        return at, _read_varint(envelope, at)[1]
    if kind == _I64:
        return at, at + 8
    if kind == _I32:
        return at, at + 4
    if kind == _TEXT:
        length, begin = _read_varint(envelope, at)
        return begin, begin + length
    raise DecodeError(f"malformed proto-rpc envelope: wire type {kind}")


def _read_varint(envelope: bytes, at: int) -> tuple[int, int]:
    number = 0
    for place, byte in enumerate(envelope[at : at + _LONGEST_VARINT]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise DecodeError("malformed proto-rpc envelope: a number without an end")
