"""The json codec: everything that is neither bytes nor a protobuf message travels so, unless asked otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import msgspec

from micro_core.builtin.json.defaults import with_defaults
from micro_core.builtin.json.envelope import JsonRpcFraming
from micro_core.builtin.json.floats import no_number_in
from micro_core.builtin.json.payload_types import decode_function, encode_model, why_not
from micro_core.builtin.json.reader import json_reader
from micro_core.codec import Codec
from micro_core.errors import DecodeError, EncodeError
from micro_core.hookspecs import hookimpl

__all__ = ["JsonCodec", "JsonRpcCodec", "make_codec"]

_ZEROS = (b"null", b"[]", b'""', b"0", b"false", b"{}")
"""The zero values of Go; an empty body is the first that the type takes (docs/wire.md §3.3)."""


class JsonCodec(Codec):
    """``application/json`` by msgspec, and by pydantic for its own models.

    Unknown fields are ignored. JSON knows no NaN and no infinity: a value that holds one cannot be written.
    """

    name = "json"
    content_type = "application/json"
    legacy_content_type = "application/json-rpc"

    def __init__(self) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=encode_model).encode

    def supports(self, type: object) -> bool:
        return not why_not(type)

    def native(self, type: object) -> bool:
        return type is None or type is NoneType

    def encode(self, value: object) -> bytes:
        try:
            body = self._encode(value)
        except RecursionError as error:
            raise EncodeError(f"{type(value).__qualname__} is nested too deep, or holds itself") from error
        except (TypeError, ValueError, OverflowError, AttributeError) as error:
            raise EncodeError(f"{type(value).__qualname__} cannot be written as JSON: {error}") from error
        if body.find(b"null") >= 0 and (place := no_number_in(value)):  # `in` takes ten times as long
            raise EncodeError(
                f"{type(value).__qualname__} cannot be written as JSON, which knows no such number: {place}; "
                "send None or a text in its place"
            )
        return body

    def decoder(self, type: object) -> Callable[[bytes], Any]:
        read = json_reader(with_defaults(type, decode_function(type)), type)

        def decode(body: bytes) -> object:
            return read(body) if body else _zero(read)

        return decode


class JsonRpcCodec(JsonCodec):
    """``application/json-rpc``: what Go's legacy clients and servers put round the same JSON (docs/wire.md §3.5)."""

    name = "json-rpc"
    content_type = "application/json-rpc"
    legacy_content_type = ""
    framing = JsonRpcFraming()

    def native(self, type: object) -> bool:
        return False


def _zero(read: Callable[[bytes], object]) -> object:
    for zero in _ZEROS:
        try:
            return read(zero)
        except DecodeError as error:
            refused = error
    raise DecodeError(f"the body is empty: {refused.detail}")


@hookimpl
def make_codec() -> Sequence[Codec]:
    """Return the codec of this entry point, and the one for legacy peers."""
    return [JsonCodec(), JsonRpcCodec()]
