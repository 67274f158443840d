"""Frames that cost their sender nothing and us something: how many a peer may send (RFC 9113 §10.5)."""

from __future__ import annotations

from collections.abc import Callable

from h2 import events

__all__ = ["Floods"]


class _Allowance:
    """So many at once, and so many a second after that."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = self._left = burst
        self._rate = rate
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Take one; return whether there was one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left -= 1
        return self._left >= 0


class Floods:
    """Counts what a peer of one connection does. CONTINUATION frames are bounded by h2 itself, 64 for a block."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._resets = _Allowance(200, 50)
        self._made = _Allowance(100, 10)
        self._empty = _Allowance(100, 10)
        self._others: dict[type, tuple[str, _Allowance]] = {
            events.PingReceived: ("PING", _Allowance(50, 5)),
            events.RemoteSettingsChanged: ("SETTINGS", _Allowance(20, 1)),
            events.PriorityUpdated: ("PRIORITY", _Allowance(200, 20)),
            events.UnknownFrameReceived: ("unknown", _Allowance(100, 10)),
        }

    def of(self, event: events.Event) -> str | None:
        """Count what happened; return which kind of it there is too much of."""
        kind = type(event)
        if kind is events.StreamReset:
            # Those that h2 itself had to make for a broken stream are told apart.
            if isinstance(event, events.StreamReset) and not event.remote_reset:
                return self.made()
            return None if self._resets.take(self._time()) else "RST_STREAM"
        if isinstance(event, events.DataReceived):
            if event.data or event.stream_ended is not None:
                return None
            return None if self._empty.take(self._time()) else "empty DATA"
        if kind in self._others:
            name, allowance = self._others[kind]
            return None if allowance.take(self._time()) else name
        return None

    def made(self) -> str | None:
        """Count a reset that the peer made us send."""
        return None if self._made.take(self._time()) else "streams that had to be refused"
