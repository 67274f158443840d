"""What the requests of one HTTP/2 connection hold of memory: so much, then they come one after another."""

from __future__ import annotations

from typing import Protocol

from micro_transport_http.http2.stream_state import StreamState

__all__ = ["Bodies"]

_MOST_UNFINISHED = 16 * 1024 * 1024
"""Bytes of requests that are not all here, beyond which one of them at a time gets on."""
_MOST = 64 * 1024 * 1024
"""Bytes of requests, beyond which nothing more is taken until one is answered."""


class Letting(Protocol):
    """Lets the peer send on."""

    def __call__(self, stream: StreamState, size: int, /) -> None: ...


class Bodies:
    """The bodies of one connection, each let on by ``step`` bytes at a time."""

    def __init__(self, allow: Letting, step: int) -> None:
        self._allow = allow
        self._step = step
        self._waiting: dict[int, StreamState] = {}
        self._first: StreamState | None = None
        """The one that gets on although there is too much."""
        self.held = 0
        """Bytes of requests that nobody has answered."""
        self.unfinished = 0
        """Those among them of requests that are not all here."""

    @property
    def are_few(self) -> bool:
        """Whether more may come."""
        return self.held < _MOST

    def came(self, size: int) -> None:
        """Count a part of a body that is not all here."""
        self.held += size
        self.unfinished += size

    def let_on(self, stream: StreamState) -> None:
        """Have more of a body sent, now or when it is its turn."""
        if self.unfinished > _MOST_UNFINISHED:
            if self._first is not None and self._first is not stream:
                self._waiting[stream.id] = stream
                return
            self._first = stream
        self._allow(stream, self._step)

    def finished(self, stream: StreamState) -> None:
        """Take note that a body is all here, or comes no more."""
        self.unfinished -= stream.length
        self._waiting.pop(stream.id, None)
        if self._first is stream:
            self._first = None
        while self._waiting and (self.unfinished <= _MOST_UNFINISHED or self._first is None):
            self.let_on(self._waiting.pop(next(iter(self._waiting))))
