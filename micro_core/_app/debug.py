"""``Debug.Health`` and ``Debug.Stats``, which every service answers (docs/wire.md §6.5)."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from micro_core._app.handlers import endpoint
from micro_core.codec import Codec
from micro_core.errors import EncodeError

__all__ = ["Debug", "DebugCodec"]


class HealthRequest(msgspec.Struct, frozen=True):
    """Nothing."""


class HealthResponse(msgspec.Struct, frozen=True):
    """How a service is."""

    status: str


class StatsRequest(msgspec.Struct, frozen=True):
    """Nothing."""


class StatsResponse(msgspec.Struct, frozen=True):
    """How a service does. Times are Unix seconds, ``uptime`` seconds, ``memory`` the bytes that it had at most."""

    timestamp: int
    started: int
    uptime: int
    memory: int
    threads: int


class Debug:
    """What operators ask of every service."""

    def __init__(self) -> None:
        self._started = time.time()

    @endpoint(internal=True, idempotent=True)
    async def health(self, request: HealthRequest) -> HealthResponse:
        """Say that the service answers."""
        return HealthResponse("ok")

    @endpoint(internal=True, idempotent=True)
    async def stats(self, request: StatsRequest) -> StatsResponse:
        """Say how the service does."""
        now = time.time()
        return StatsResponse(
            timestamp=int(now),
            started=int(self._started),
            uptime=int(now - self._started),
            memory=_peak_memory(),
            threads=threading.active_count(),
        )


def _peak_memory() -> int:
    """Return how many bytes of memory this process had at most; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class DebugCodec(Codec):
    """The protobuf form of `Debug`'s messages, so that Go's command line is answered without a protobuf library."""

    name = "debug"
    content_type = "application/protobuf"

    def supports(self, type: object) -> bool:
        return type in (HealthRequest, HealthResponse, StatsRequest, StatsResponse)

    def encode(self, value: object) -> bytes:
        if isinstance(value, HealthRequest | StatsRequest):
            return b""
        if isinstance(value, StatsResponse):
            numbers = (value.timestamp, value.started, value.uptime, value.memory, value.threads)
            return b"".join(bytes([field << 3]) + _varint(number) for field, number in enumerate(numbers, 1) if number)
        if not isinstance(value, HealthResponse):
            raise EncodeError(f"{type(value).__name__} is no message of Debug")
        status = value.status.encode()
        return b"\x0a" + bytes([len(status)]) + status

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        return lambda body: type()


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
