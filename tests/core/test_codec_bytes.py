"""The bytes codec: bytes as they are."""

from typing import Any

import pytest

from micro_core import ConfigError, EncodeError
from micro_core.builtin.codec_bytes import BytesCodec, make_codec

CODEC = BytesCodec()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_native_and_come_back_as_the_type_asked_for(kind: Any) -> None:
    assert CODEC.native(kind)
    decoded = CODEC.decoder(kind)(CODEC.encode(kind(b"\x00\xff")))
    assert type(decoded) is kind
    assert decoded == b"\x00\xff"


def test_no_bytes_are_the_zero_value() -> None:
    assert CODEC.decoder(bytes)(b"") == b""


def test_none_travels_as_no_bytes_but_is_not_native() -> None:
    assert CODEC.supports(None)
    assert not CODEC.native(None)
    assert CODEC.encode(None) == b""
    assert CODEC.decoder(None)(b"ignored") is None


@pytest.mark.parametrize("type", [str, Any, list[bytes], dict, object, bytes | None])
def test_other_types_are_not_supported(type: Any) -> None:
    assert not CODEC.supports(type)
    with pytest.raises(ConfigError):
        CODEC.decoder(type)


@pytest.mark.parametrize("value", ["text", 1, [1], {}])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(EncodeError):
        CODEC.encode(value)


def test_the_entry_point_gives_the_codec() -> None:
    assert [codec.content_type for codec in make_codec()] == ["application/octet-stream"]
