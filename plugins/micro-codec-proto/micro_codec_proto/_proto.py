"""Protobuf messages as protobuf writes them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isclass
from types import NoneType
from typing import Any

from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import EncodeError as ProtobufEncodeError
from google.protobuf.message import Message

from micro_codec_proto._protorpc import ProtoRpcFraming
from micro_core import Codec, ConfigError, DecodeError, EncodeError

__all__ = ["ProtoCodec", "ProtoRpcCodec", "is_message"]


class ProtoCodec(Codec):
    """``application/protobuf``: generated messages; None is coded too, as a message without fields."""

    name = "proto"
    content_type = "application/protobuf"
    legacy_content_type = "application/proto-rpc"

    def supports(self, type: Any) -> bool:
        return is_message(type) or type in (None, NoneType)

    def native(self, type: Any) -> bool:
        return is_message(type)

    def encode(self, value: Any) -> bytes:
        if value is None:
            return b""
        try:
            encoded: bytes = value.SerializeToString()
        except AttributeError as error:
            kind = type(value).__qualname__
            raise EncodeError(f"{self.content_type} takes protobuf messages, not {kind}") from error
        except (ProtobufEncodeError, ValueError) as error:
            raise EncodeError(str(error)) from error
        return encoded

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        if not self.supports(type):
            raise ConfigError("takes protobuf messages alone")
        return _message_reader(type) if is_message(type) else _nothing


class ProtoRpcCodec(ProtoCodec):
    """``application/proto-rpc``: the envelope of legacy peers round the same messages (docs/wire.md §3.5)."""

    name = "proto-rpc"
    content_type = "application/proto-rpc"
    legacy_content_type = ""
    framing = ProtoRpcFraming()

    def native(self, type: Any) -> bool:
        return False


def is_message(type: Any) -> bool:
    """Tell whether ``type`` is a generated message's class."""
    return isclass(type) and issubclass(type, Message) and type is not Message


def _message_reader(kind: type[Message]) -> Callable[[bytes], Message]:
    parse, name = kind.FromString, kind.__name__

    def read(body: bytes) -> Message:
        try:
            return parse(body)
        except (ProtobufDecodeError, ValueError) as error:
            raise DecodeError(f"malformed protobuf message {name}: {error}") from error

    return read


def _nothing(body: bytes) -> None:
    return None
