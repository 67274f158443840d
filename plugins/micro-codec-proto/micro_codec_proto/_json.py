"""Protobuf messages as JSON that every version of Go Micro reads (docs/wire.md §3.5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from micro_codec_proto._proto import is_message
from micro_core import Codec, ConfigError

__all__ = ["ProtoJsonCodec"]


class ProtoJsonCodec(Codec):
    """``application/json`` for protobuf messages.

    Written with the field names of the .proto and with numbers for 64-bit integers and enums: the one form that Go's
    ``encoding/json`` and its ``protojson`` both read. Either spelling is read, and unknown fields are ignored.
    """

    name = "proto-json"
    content_type = "application/json"

    def supports(self, type: Any) -> bool:
        return is_message(type)

    def encode(self, value: Any) -> bytes:
        from micro_codec_proto._document import write

        return write(value)

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        if not is_message(type):
            raise ConfigError("takes protobuf messages alone")
        from micro_codec_proto._document import parse

        return lambda body: parse(body, type())
