"""What a peer says about itself in SETTINGS, and what may not be said (RFC 9113 §6.5.2)."""

from __future__ import annotations

from .broken import ConnectionBroken
from .frames import LARGEST_WINDOW, Code, Setting

__all__ = ["PeerSettings"]

_MOST = 64
"""Settings of a peer that are kept; further ones are ignored."""


class PeerSettings(dict[int, int]):
    """The settings of a peer, by number; those that it has not said are not in it."""

    def take(self, number: int, value: int) -> None:
        """Keep a setting. Raises `ConnectionBroken` for a value that it may not have."""
        if number == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")
        if number == Setting.INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE of {value}")
        if number == Setting.MAX_FRAME_SIZE and not 16_384 <= value < 2**24:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"MAX_FRAME_SIZE of {value}")
        if len(self) < _MOST or number in self:
            self[number] = value
