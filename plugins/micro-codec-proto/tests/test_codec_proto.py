"""Protobuf messages as protobuf, and the terms under which the plugin loads."""

import os
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from micro_codec_proto._proto import ProtoCodec
from micro_codec_proto.plugin import make_codec
from micro_core import ConfigError, DecodeError, EncodeError

CODEC = ProtoCodec()


def test_messages_travel_by_protobuf_unless_asked_otherwise(greeting: Any) -> None:
    codecs = make_codec()
    assert [codec.name for codec in codecs if codec.native(greeting)] == ["proto"]
    assert [codec.content_type for codec in codecs if codec.supports(greeting)] == [
        "application/protobuf",
        "application/proto-rpc",
        "application/json",
    ]


@pytest.mark.parametrize("type", [int, dict, bytes, Any, Message, list[int], "Greeting"])
def test_only_generated_messages_are_supported(type: Any) -> None:
    assert not any(codec.supports(type) for codec in make_codec())
    with pytest.raises(ConfigError, match="protobuf messages"):
        CODEC.decoder(type)


def test_the_worked_message_is_written_and_read(greeting: Any) -> None:
    assert CODEC.encode(greeting(name="John")).hex() == "0a044a6f686e"
    assert CODEC.decoder(greeting)(bytes.fromhex("0a044a6f686e")) == greeting(name="John")


def test_no_bytes_are_the_zero_message(greeting: Any) -> None:
    assert CODEC.encode(greeting()) == b""
    assert CODEC.decoder(greeting)(b"") == greeting()


def test_none_travels_as_no_bytes_and_reads_any_message(greeting: Any) -> None:
    assert CODEC.encode(None) == b""
    assert CODEC.decoder(None)(CODEC.encode(greeting(name="John"))) is None


def test_an_unknown_field_is_ignored(greeting: Any) -> None:
    assert CODEC.decoder(greeting)(b"\xf8\x07\x01\x0a\x04John").name == "John"


@pytest.mark.parametrize("value", [{"name": "John"}, b"John", 1, object()])
def test_what_is_no_message_is_refused(value: Any) -> None:
    with pytest.raises(EncodeError, match="protobuf messages"):
        CODEC.encode(value)


def test_a_message_without_a_required_field_is_refused() -> None:
    with pytest.raises(EncodeError, match="name_part"):
        CODEC.encode(descriptor_pb2.UninterpretedOption.NamePart())


@pytest.mark.parametrize(
    "body",
    [b"\xff" * 20, b"\x0a\xff\xff\xff\xff\x07", b"\x0a\x05John", b"\x0a\x02\xff\xfe", b"\x0b" * 1000],
    ids=["tags", "length", "cut", "text", "groups"],
)
def test_a_malformed_message_is_a_decode_error(greeting: Any, body: bytes) -> None:
    with pytest.raises(DecodeError, match="Greeting"):
        CODEC.decoder(greeting)(body)


def test_nesting_is_bounded(greeting: Any) -> None:
    deep = inner = greeting()
    for _ in range(200):
        inner = inner.replies.add()
    with pytest.raises(DecodeError):
        CODEC.decoder(greeting)(deep.SerializeToString())


@given(body=st.binary(max_size=200))
def test_random_bytes_are_a_message_or_a_decode_error(greeting: Any, body: bytes) -> None:
    try:
        message = CODEC.decoder(greeting)(body)
    except DecodeError:
        return
    assert CODEC.decoder(greeting)(CODEC.encode(message)) == message


@given(name=st.text(max_size=50), sent_count=st.integers(-(2**63), 2**63 - 1), ids=st.lists(st.integers(-9, 9)))
def test_messages_round_trip(greeting: Any, name: str, sent_count: int, ids: list[int]) -> None:
    message = greeting(name=name, sent_count=sent_count, ids=ids)
    assert CODEC.decoder(greeting)(CODEC.encode(message)) == message


def test_the_pure_python_implementation_is_refused_with_the_reason() -> None:
    program = "from micro_codec_proto.plugin import make_codec; make_codec()"
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "PluginError: protobuf runs on its pure-Python implementation" in done.stderr
