"""What the payload of a frame says, and of which form it has to be (RFC 9113 §6)."""

from __future__ import annotations

from .broken import ConnectionBroken, StreamBroken
from .frames import LARGEST_WINDOW, PADDED, PRIORITY_FIELDS, Code, settings_in

__all__ = ["block_in", "check_priority", "goaway_in", "number_in", "ping_in", "said_in", "unpadded"]


def block_in(flags: int, stream: int, payload: bytes) -> bytes:
    """Return what a HEADERS frame has of a block. Raises `ConnectionBroken`."""
    if not stream:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "HEADERS of no stream")
    if flags & PADDED:
        payload = unpadded(payload)
    if flags & PRIORITY_FIELDS:
        if len(payload) < 5:
            raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "HEADERS too short for their priority")
        if _depends_on(payload) == stream:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "a stream that depends on itself")
        payload = payload[5:]
    return payload


def unpadded(payload: bytes) -> bytes:
    """Return a payload without its padding. Raises `ConnectionBroken` where there is more of that than payload."""
    if not payload:
        raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    end = len(payload) - payload[0]
    if end < 1:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[1:end]


def check_priority(stream: int, payload: bytes) -> None:
    """Look at what RFC 9113 §5.3 lets everybody ignore. Raises `ConnectionBroken` and `StreamBroken`."""
    if not stream:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "PRIORITY of no stream")
    if len(payload) != 5:
        raise StreamBroken(stream, Code.FRAME_SIZE_ERROR, "PRIORITY of another size than 5")
    if _depends_on(payload) == stream:
        raise StreamBroken(stream, Code.PROTOCOL_ERROR, "a stream that depends on itself")


def _depends_on(payload: bytes) -> int:
    return int.from_bytes(payload[:4]) & LARGEST_WINDOW


def number_in(name: str, payload: bytes) -> int:
    """Return the one number that a frame of this name consists of. Raises `ConnectionBroken`."""
    if len(payload) != 4:
        raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"{name} of another size than 4")
    return int.from_bytes(payload)


def said_in(stream: int, payload: bytes, *, acknowledges: bool) -> list[tuple[int, int]]:
    """Return the settings of a SETTINGS frame, none where it acknowledges ours. Raises `ConnectionBroken`."""
    if stream:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
    if acknowledges and payload:
        raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "SETTINGS ACK with settings")
    if len(payload) % 6:
        raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "SETTINGS of a size that is no multiple of 6")
    return settings_in(payload)


def ping_in(stream: int, payload: bytes) -> bytes:
    """Return what the answer to a PING repeats. Raises `ConnectionBroken`."""
    if stream:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "PING of a stream")
    if len(payload) != 8:
        raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "PING of another size than 8")
    return payload


def goaway_in(stream: int, payload: bytes) -> tuple[int, int]:
    """Return the last stream that the sender of a GOAWAY looks at, and its code. Raises `ConnectionBroken`."""
    if stream:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "GOAWAY of a stream")
    if len(payload) < 8:
        raise ConnectionBroken(Code.FRAME_SIZE_ERROR, "GOAWAY of less than 8 bytes")
    return int.from_bytes(payload[:4]) & LARGEST_WINDOW, int.from_bytes(payload[4:8])
