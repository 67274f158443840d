"""What the parts of one broker share of its settings."""

from __future__ import annotations

import random as randomness
import time
from collections.abc import Awaitable, Callable

import anyio
import msgspec

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the plugin's README, and what tests put in place of clock, sleep and chance; seconds and bytes."""

    body_limit: int = 4 << 20
    outbox_messages: int = 10_000
    outbox_bytes: int = 32 << 20
    keep: float = 60.0
    confirm_timeout: float = 30.0
    drain_timeout: float = 25.0
    go_in_flight: int = 8
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = randomness.random
    """From 0 to 1."""

    @property
    def message_limit(self) -> int:
        """Bytes of the largest message, which leaves a batch room for its frame."""
        return self.body_limit - 1024
