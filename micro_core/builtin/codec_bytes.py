"""The bytes codec: what is bytes already travels as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import NoneType

from micro_core.codec import Codec
from micro_core.errors import ConfigError, EncodeError
from micro_core.hookspecs import hookimpl

__all__ = ["BytesCodec", "make_codec"]

_BYTES = (bytes, bytearray, memoryview)


class BytesCodec(Codec):
    """``application/octet-stream``: bytes as they are. None is coded too, as no bytes at all."""

    name = "bytes"
    content_type = "application/octet-stream"

    def supports(self, type: object) -> bool:
        return type in (*_BYTES, NoneType, None)

    def native(self, type: object) -> bool:
        return type in _BYTES

    def encode(self, value: object) -> bytes:
        if isinstance(value, _BYTES):
            return bytes(value)
        if value is None:
            return b""
        raise EncodeError(f"{self.content_type} takes bytes, not {type(value).__qualname__}")

    def decoder(self, type: object) -> Callable[[bytes], object]:
        if not self.supports(type):
            raise ConfigError("takes bytes, bytearray and memoryview alone")
        return _nothing if type in (NoneType, None) else _constructors[type]


def _nothing(body: bytes) -> None:
    return None


_constructors: Mapping[object, Callable[[bytes], object]] = {kind: kind for kind in _BYTES}


@hookimpl
def make_codec() -> Sequence[Codec]:
    """Return the codec of this entry point."""
    return [BytesCodec()]
