"""``Debug.Health``, which every service answers (docs/wire.md §6.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from micro_core._handlers import endpoint
from micro_core.codec import Codec
from micro_core.errors import EncodeError

__all__ = ["Debug", "DebugCodec"]


@dataclass(frozen=True, slots=True)
class HealthRequest:
    """Nothing."""


@dataclass(frozen=True, slots=True)
class HealthResponse:
    """How a service is."""

    status: str


class Debug:
    """What operators ask of every service."""

    @endpoint(internal=True, idempotent=True)
    async def health(self, request: HealthRequest) -> HealthResponse:
        """Say that the service answers."""
        return HealthResponse("ok")


class DebugCodec(Codec):
    """The protobuf form of `Debug`'s two messages, so that Go's command line is answered without a protobuf library."""

    name = "debug"
    content_type = "application/protobuf"

    def supports(self, type: Any) -> bool:
        return type in (HealthRequest, HealthResponse)

    def encode(self, value: Any) -> bytes:
        if isinstance(value, HealthRequest):
            return b""
        if not isinstance(value, HealthResponse):
            raise EncodeError(f"{type(value).__name__} is no message of Debug")
        status = value.status.encode()
        return b"\x0a" + bytes([len(status)]) + status

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        return lambda body: HealthRequest()
