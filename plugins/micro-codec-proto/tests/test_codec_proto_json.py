"""Protobuf messages as JSON: the form that both of Go's JSON packages read, and every form that they write."""

import json
from typing import Any

import pytest
from google.protobuf import struct_pb2, wrappers_pb2
from hypothesis import given
from hypothesis import strategies as st

from micro_codec_proto._json import ProtoJsonCodec
from micro_core import ConfigError, DecodeError, EncodeError

CODEC = ProtoJsonCodec()


def test_names_are_those_of_the_proto_and_integers_and_enums_are_numbers(greeting: Any) -> None:
    message = greeting(
        name="John <é>",
        sent_count=2**60,
        kind=1,
        ids=[1, -2],
        scores={"a": 2**63},
        warmth=0.1,
        replies=[greeting(sent_count=5)],
    )
    message.at.FromJsonString("2020-01-02T03:04:05Z")
    assert json.loads(CODEC.encode(message)) == {
        "name": "John <é>",
        "sent_count": 2**60,
        "kind": 1,
        "ids": [1, -2],
        "scores": {"a": 2**63},
        "warmth": 0.1,
        "replies": [{"sent_count": 5}],
        "at": "2020-01-02T03:04:05Z",
    }


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":"John","sent_count":5,"kind":1,"scores":{"a":7}}\n',
        b'{"name":"John","sentCount":"5","kind":"WARM","scores":{"a":"7"},"unknown":{"x":[1]}}',
    ],
    ids=["encoding/json", "protojson"],
)
def test_what_either_go_package_writes_is_read(greeting: Any, body: bytes) -> None:
    assert CODEC.decoder(greeting)(body) == greeting(name="John", sent_count=5, kind=1, scores={"a": 7})


def test_no_bytes_and_an_empty_object_are_the_zero_message(greeting: Any) -> None:
    assert CODEC.decoder(greeting)(b"") == CODEC.decoder(greeting)(b"{}") == greeting()
    assert CODEC.encode(greeting()) == b"{}"


def test_a_body_that_does_not_fit_names_the_field(greeting: Any) -> None:
    with pytest.raises(DecodeError, match=r"^field 'replies.sent_count' does not fit Greeting: .*'x'$") as raised:
        CODEC.decoder(greeting)(b'{"replies":[{"sent_count":"x"}],"name":1}')
    (fault,) = raised.value.details["faults"]
    assert fault["path"] == "replies.sent_count"
    assert raised.value.details["complete"] is False


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"1",
        b"\xff",
        b'{"name":"\xff"}',
        b'{"name":"\\ud800"}',
        b'{"sent_count":1e400}',
        b'{"sent_count":' + b"1" * 5000 + b"}",
        b'{"sent_count":9223372036854775808}',
        b'{"warmth":NaN}',
        b'{"replies":{}}',
        b'{"scores":[]}',
        b'{"kind":"COLD"}' + b"}",
        b'{"at":"yesterday"}',
        b'{"x":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"replies":[' * 200 + b"]}" * 200,
        b"{" * 100_000,
        b"\xef\xbb\xbf{}",
        b"\x00",
        b'{"name":"a"',
    ],
)
def test_a_malformed_body_is_a_decode_error(greeting: Any, body: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decoder(greeting)(body)


def test_a_message_nested_too_deep_is_refused(greeting: Any) -> None:
    deep = inner = greeting()
    for _ in range(2000):
        inner = inner.replies.add()
    with pytest.raises(EncodeError):
        CODEC.encode(deep)


def test_well_known_types_keep_their_own_form() -> None:
    assert CODEC.encode(wrappers_pb2.StringValue(value="a")) == b'"a"'
    assert CODEC.decoder(struct_pb2.Value)(b"[1]").list_value.values[0].number_value == 1


@pytest.mark.parametrize("type", [dict, None, Any, int])
def test_other_types_are_left_to_other_codecs(type: Any) -> None:
    assert not CODEC.supports(type)
    with pytest.raises(ConfigError):
        CODEC.decoder(type)


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(EncodeError):
        CODEC.encode({"name": "John"})


@given(
    name=st.text(max_size=50),
    sent_count=st.integers(-(2**63), 2**63 - 1),
    ids=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    scores=st.dictionaries(st.text(max_size=5), st.integers(0, 2**64 - 1), max_size=3),
    # Old versions of protobuf round the very largest floats to what they then refuse.
    warmth=st.floats(width=32, min_value=-(2.0**127), max_value=2.0**127),
)
def test_messages_round_trip(greeting: Any, **fields: Any) -> None:
    message = greeting(**fields)
    assert CODEC.decoder(greeting)(CODEC.encode(message)) == message


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "sentCount", "kind", "replies", "scores", "ids", "at", "x"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(body=st.binary(max_size=100) | JSON.map(lambda document: json.dumps(document).encode()))
def test_random_bodies_are_a_message_or_a_decode_error(greeting: Any, body: bytes) -> None:
    for kind in (greeting, struct_pb2.Struct, wrappers_pb2.Int64Value):
        try:
            CODEC.decoder(kind)(body)
        except DecodeError:
            pass
