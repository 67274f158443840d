"""What leaves a connection: as much as the peer's windows take (RFC 9113 §5.2), the rest when they are opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .broken import ConnectionBroken, StreamBroken
from .frames import END_STREAM, LARGEST_WINDOW, Code, data_frame
from .stream_state import StreamState

__all__ = ["Sending", "Wire"]

_LARGEST_FRAME = 64 * 1024
"""So that one stream does not hold up the others for long, whatever the peer would take."""


class Wire(Protocol):
    """Where bytes go."""

    is_writable: bool

    def write(self, data: bytes, *, alone: bool = False) -> None: ...

    def before_flush(self, write: Callable[[], object]) -> None: ...


class Sending:
    """One direction of a connection: the bodies of its streams."""

    def __init__(self, wire: Wire, sent_all: Callable[[Any], None]) -> None:
        self._wire = wire
        self._sent_all = sent_all
        self._waiting: dict[int, StreamState] = {}
        self.window = 65_535
        """Bytes that the peer takes for all streams together."""
        self.initial = 65_535
        """Bytes that the peer takes for a new stream."""
        self.frame_size = 16_384
        self._count = 0

    def taken_count(self) -> float:
        """Return how many WINDOW_UPDATEs what was sent since the last time asks for, at most."""
        count, self._count = self._count, 0
        return count / 1024

    def fits(self, stream: StreamState, size: int) -> bool:
        """Tell whether a body may leave at once, in one frame; if so, the connection's window is less by it."""
        if size > self.window or size > self.frame_size or size > self.initial + stream.credit:
            return False
        if stream.outgoing is not None or not self._wire.is_writable:
            return False
        self.window -= size
        self._count += size + 2048
        return True

    def send(self, stream: StreamState, data: bytes, *, ends: bool = False, alone: bool = False) -> None:
        """Send what there is room for, and the rest when there is."""
        if stream.has_sent_end or stream.ends:
            return
        if self.fits(stream, len(data)):
            stream.credit -= len(data)
            self._wire.write(data_frame(stream.id, data, END_STREAM if ends else 0), alone=alone)
            if ends:
                stream.has_sent_end = True
                self._sent_all(stream)
            return
        if stream.outgoing is None:
            stream.outgoing = deque()
            self._waiting[stream.id] = stream
        if data:
            stream.outgoing.append(memoryview(data))
            stream.unsent += len(data)
        stream.ends = ends
        while self._pump(stream):
            pass

    def pump(self) -> None:
        """Go on with every stream that has something to send, a frame of each in turn."""
        while self._waiting and self._wire.is_writable:
            moved = [stream for stream in list(self._waiting.values()) if self._pump(stream)]
            if not moved:
                return

    def _pump(self, stream: StreamState) -> bool:
        """Send a frame of what waits; return whether anything left."""
        outgoing = stream.outgoing
        if outgoing is None or not self._wire.is_writable:
            return False
        room = min(self.window, self.initial + stream.credit, self.frame_size)
        if stream.unsent and room <= 0:
            return False
        data = _taken(outgoing, room)
        stream.unsent -= len(data)
        self.window -= len(data)
        stream.credit -= len(data)
        self._count += len(data) + 2048
        is_last = not outgoing
        if is_last:
            self.forget(stream)
            stream.has_sent_end = stream.ends
        if data or stream.has_sent_end:
            self._wire.write(data_frame(stream.id, data, END_STREAM if stream.has_sent_end else 0))
            if stream.has_sent_end:
                self._sent_all(stream)
        stream.room_again()
        return True

    def forget(self, stream: StreamState) -> None:
        """Send nothing more of what waits."""
        self._waiting.pop(stream.id, None)
        stream.outgoing = None
        stream.unsent = 0

    def opened(self, stream: StreamState | None, size: int) -> None:
        """Count what the peer takes more, on a stream or on the connection. Raises where that is impossible."""
        if stream is None:
            self.window += size
            if self.window > LARGEST_WINDOW:
                raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
        else:
            stream.credit += size
            if self.initial + stream.credit > LARGEST_WINDOW:
                raise StreamBroken(stream.id, Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
        self.pump()

    def limit_frames(self, size: int) -> None:
        """Keep to the frames that the peer takes."""
        self.frame_size = min(size, _LARGEST_FRAME)


def _taken(outgoing: deque[memoryview], most: int) -> bytes:
    """Take up to so many bytes out of what waits."""
    parts: list[memoryview] = []
    while outgoing and most > 0:
        part = outgoing[0]
        if len(part) > most:
            parts.append(part[:most])
            outgoing[0] = part[most:]
            break
        most -= len(part)
        parts.append(outgoing.popleft())
    return b"".join(parts)
