"""A block of headers that was cut into frames: HEADERS, and CONTINUATIONs after it (RFC 9113 §6.10)."""

from __future__ import annotations

from .broken import ConnectionBroken
from .frames import Code

__all__ = ["CutBlock"]

_MOST_PARTS = 17
"""Frames of one block."""


class CutBlock:
    """What has come of a block; nothing else may come before the rest of it."""

    def __init__(self, stream: int, first: bytes, most: int, *, ends: bool) -> None:
        self.stream = stream
        self.ends = ends
        """The stream ends with it."""
        self._most = most
        self._parts = [first]
        self._size = len(first)

    def add(self, part: bytes) -> None:
        """Take a further part. Raises `ConnectionBroken` for too many, or more than ``most`` bytes together."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._most or len(self._parts) > _MOST_PARTS:
            raise ConnectionBroken(Code.ENHANCE_YOUR_CALM, "too long a block of headers")

    def whole(self) -> bytes:
        """Return all that has come."""
        return b"".join(self._parts)
