"""The choice of a codec, by type and by content type."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from micro_core import BadRequest, Codec, EncodeError, Executed
from micro_core._wire.codec_set import CodecSet
from micro_core.builtin.codec_bytes import BytesCodec
from micro_core.builtin.json.codec import JsonCodec, JsonRpcCodec


@dataclass
class Greeting:
    name: str


class Message:
    DESCRIPTOR = None

    def SerializeToString(self) -> bytes:
        return b""


class MessageCodec(Codec):
    """A second codec for JSON, and one that counts what it is asked."""

    name = "messages"
    content_type = "application/json"

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def supports(self, type: Any) -> bool:
        self.asked.append(type)
        return type is Message

    def encode(self, value: Any) -> bytes:
        return b"{}"

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        return lambda body: Message()


CODECS = CodecSet([BytesCodec(), JsonCodec(), JsonRpcCodec()])


@pytest.mark.parametrize(
    ("type", "name"),
    [
        (bytes, "bytes"),
        (bytearray, "bytes"),
        (Greeting, "json"),
        (list[Greeting], "json"),
        (Any, "json"),
        (None, "json"),
        (type(None), "json"),
        (Annotated[int, []], "json"),  # unhashable
    ],
)
def test_the_content_type_follows_the_type(type: Any, name: str) -> None:
    assert CODECS.for_type(type).name == name


def test_legacy_codecs_are_never_the_default() -> None:
    assert CodecSet([JsonRpcCodec(), JsonCodec()]).for_type(Greeting).name == "json"


def test_the_order_of_selection_decides_between_codecs_to_which_nothing_is_native() -> None:
    class Fast(JsonCodec):
        name = "fast"

    assert CodecSet([Fast(), JsonCodec()]).for_type(Greeting).name == "fast"


def test_a_type_without_codec_is_refused_with_every_reason() -> None:
    with pytest.raises(
        EncodeError, match=r"no codec for object; bytes: takes bytes.*; json: JSON cannot hold"
    ) as caught:
        CODECS.for_type(object)
    assert caught.value.executed is Executed.NO


def test_a_protobuf_message_without_its_plugin_is_refused_with_what_to_install() -> None:
    with pytest.raises(EncodeError, match="pip install micro-codec-proto"):
        CODECS.for_type(Message)


def test_a_codec_is_found_by_content_type() -> None:
    assert CODECS.find("application/json", Greeting).name == "json"
    assert CODECS.find("application/json-rpc", Greeting).name == "json-rpc"
    assert CODECS.find("application/octet-stream", None).name == "bytes"
    assert CODECS.find("application/json", Annotated[int, []]).name == "json"


def test_codecs_may_share_a_content_type() -> None:
    codecs = CodecSet([JsonCodec(), MessageCodec()])
    assert codecs.find("application/json", Greeting).name == "json"
    assert codecs.find("application/json", Message).name == "messages"


def test_a_choice_is_made_once() -> None:
    codec = MessageCodec()
    codecs = CodecSet([codec])
    for _ in range(3):
        assert codecs.find("application/json", Message) is codecs.for_type(Message) is codec
    assert codec.asked == [Message, Message]


def test_an_unknown_content_type_is_refused_with_those_that_are_taken() -> None:
    with pytest.raises(
        BadRequest, match="'text/x'; this service takes: application/json, application/json-rpc"
    ) as caught:
        CODECS.find("text/x", Greeting)
    assert caught.value.executed is Executed.NO


def test_a_content_type_that_is_none_for_the_type_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadRequest, match="'application/octet-stream'; Greeting travels as: application/json"):
        CODECS.find("application/octet-stream", Greeting)


def test_little_of_a_hostile_content_type_is_repeated() -> None:
    with pytest.raises(BadRequest) as caught:
        CODECS.find("\r\n" * 10_000, Greeting)
    assert len(caught.value.detail) < 1000
    assert "\n" not in caught.value.detail


def test_refused_content_types_are_not_remembered() -> None:
    codecs = CodecSet([JsonCodec()])
    for number in range(100):
        with pytest.raises(BadRequest):
            codecs.find(f"text/{number}", Greeting)
    assert len(codecs._by_both) == 0


def test_known_content_types_and_their_framing_are_told() -> None:
    assert CODECS.supports_content_type("application/json-rpc")
    assert not CODECS.supports_content_type("application/json; charset=utf-8")
    assert CODECS.framing("application/json-rpc") is JsonRpcCodec.framing
    assert CODECS.framing("application/json") is None
    assert CODECS.framing("text/x") is None


def test_variants_of_a_content_type_find_its_codec_and_are_not_kept() -> None:
    codecs = CodecSet([BytesCodec(), JsonCodec(), JsonRpcCodec()])
    for number in range(100):
        assert codecs.find(f"Application/JSON; n={number}", Greeting).name == "json"
        assert codecs.framing(f"application/json-rpc; n={number}") is not None
    assert len(codecs._by_both) == 1


def test_a_legacy_envelope_takes_the_values_of_every_codec_of_its_content() -> None:
    """Go Micro answers json-rpc for protobuf messages too."""
    codec = CodecSet([JsonCodec(), JsonRpcCodec(), MessageCodec()]).find("application/json-rpc", Message)
    assert codec.framing is JsonRpcCodec.framing
    assert codec.encode(Message()) == MessageCodec().encode(Message())


def test_nothing_is_advised_to_be_installed_that_is() -> None:
    with pytest.raises(BadRequest) as caught:
        CodecSet([JsonCodec(), MessageCodec()]).find("text/x", Message)
    assert "pip install" not in caught.value.detail
