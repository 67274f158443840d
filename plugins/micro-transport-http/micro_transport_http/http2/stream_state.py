"""What both ends know of one stream (RFC 9113 §5.1)."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque

__all__ = ["StreamState"]


class StreamState:
    """A stream. The defaults are the class's, so that one that is short costs next to nothing."""

    id: int
    has_ended = False
    """The peer sends nothing more."""
    has_sent_end = False
    """Nothing more is sent to the peer."""
    credit = 0
    """Bytes that may be sent beside the window that a stream begins with; what was sent is taken off."""
    outgoing: deque[memoryview] | None = None
    """What has no room yet; none where nothing waits."""
    unsent = 0
    """Bytes of ``outgoing``."""
    ends = False
    """The end of the stream follows ``outgoing``."""
    size = 0
    """Bytes that came, padding included."""
    allowed = 0
    """Bytes that the peer may send beside the window that a stream begins with."""
    expected: int | None = None
    """What ``content-length`` said."""
    length = 0
    """Bytes of content that came."""
    least = 16
    """Bytes of content that a frame in the middle of the body has, or it is one of next to nothing."""
    has_fields = False
    """What the message begins with has come; what still may come are trailers."""

    @abstractmethod
    def arrived(self, data: bytes) -> None:
        """Take a part of the body: the last one, which may be empty, where the stream ``has_ended``."""

    @abstractmethod
    def was_reset(self, code: int, why: str) -> None:
        """Take note that the peer gave the stream up or broke it, and ``why`` it did; nothing more comes or goes."""

    def room_again(self) -> None:
        """Take note that something of ``outgoing`` left."""
