"""Frames as bytes (RFC 9113 §4, §6): their numbers, and what writes them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "END_HEADERS",
    "END_STREAM",
    "FRAME_HEAD",
    "GOAWAY",
    "HEADERS",
    "LARGEST_WINDOW",
    "PADDED",
    "PING",
    "PREFACE",
    "PRIORITY",
    "PRIORITY_FIELDS",
    "PUSH_PROMISE",
    "RST_STREAM",
    "SETTINGS",
    "WINDOW_UPDATE",
    "Code",
    "Setting",
    "block_frames",
    "data_frame",
    "frame",
    "goaway",
    "message_frames",
    "reset",
    "settings",
    "settings_in",
    "unpack_head",
    "window_update",
]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FIELDS = 0x20

FRAME_HEAD = 9
"""Bytes before a frame's payload."""
LARGEST_WINDOW = 2**31 - 1

_HEAD = Struct(">IBI")
_SETTING = Struct(">HI")
_NUMBER = Struct(">I")
_GOODBYE = Struct(">II")

unpack_head = _HEAD.unpack_from
"""The length with the type as its lowest byte, flags and stream of the frame that begins at an offset."""
_pack_head = _HEAD.pack
_pack_number = _NUMBER.pack


class Code(IntEnum):
    """Why something ended (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD

    @classmethod
    def name_of(cls, number: int) -> str:
        """Return the name of a code, or the number of one that has none."""
        return cls(number).name if number in cls._value2member_map_ else f"code {number:#x}"


class Setting(IntEnum):
    """What a peer says about itself (RFC 9113 §6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    MICRO = 0xF6C0
    """The version of docs/protocol.md that a listener of ours speaks; others ignore what they do not know."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a frame."""
    size = len(payload)
    return _pack_head(size << 8 | kind, flags, stream) + payload


def data_frame(stream: int, payload: bytes, flags: int) -> bytes:
    """Return a DATA frame."""
    size = len(payload)
    return _pack_head(size << 8 | DATA, flags, stream) + payload


def block_frames(stream: int, block: bytes, flags: int, most: int) -> bytes:
    """Return the HEADERS frame of a block, and CONTINUATION frames where it has more than ``most`` bytes."""
    size = len(block)
    if size <= most:
        return _pack_head(size << 8 | HEADERS, flags | END_HEADERS, stream) + block
    parts = [block[at : at + most] for at in range(0, size, most)]
    frames = [frame(HEADERS, flags, stream, parts[0])]
    frames += [frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]]
    frames.append(frame(CONTINUATION, END_HEADERS, stream, parts[-1]))
    return b"".join(frames)


def message_frames(stream: int, block: bytes, body: bytes) -> bytes:
    """Return a whole message: a block and a body that each fit into a frame."""
    head = _pack_head(len(block) << 8 | HEADERS, END_HEADERS, stream)
    return b"%b%b%b%b" % (head, block, _pack_head(len(body) << 8 | DATA, END_STREAM, stream), body)


def settings(values: Mapping[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(*item) for item in values.items()]))


def settings_in(payload: bytes) -> list[tuple[int, int]]:
    """Return the settings of a payload, which has a multiple of six bytes."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, _pack_number(size))


def reset(stream: int, code: Code) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, _pack_number(code))


def goaway(last: int, code: Code, sentence: str = "") -> bytes:
    """Return a GOAWAY frame; ``last`` is the highest stream that was or will be looked at."""
    return frame(GOAWAY, 0, 0, _GOODBYE.pack(last, code) + sentence.encode("utf-8", "replace")[:256])
