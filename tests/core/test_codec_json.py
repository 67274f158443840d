"""The json codec: every kind of payload, errors that name the field, and hostile documents."""

import enum
import json
import math
import subprocess
import sys
import uuid
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal, NotRequired, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import ConfigError, DecodeError, EncodeError
from micro_core.builtin.json.codec import JsonCodec, JsonRpcCodec, make_codec
from micro_core.builtin.json.defaults import with_defaults
from micro_core.builtin.json.payload_types import decode_function

CODEC = JsonCodec()


class Kind(enum.Enum):
    PLAIN = "plain"
    WARM = "warm"


@dataclass
class Greeting:
    name: str
    kind: Kind = Kind.PLAIN
    replies: list["Greeting"] = field(default_factory=list)
    at: datetime | None = None


@dataclass
class Options:
    loud: bool = False
    tags: list[str] = field(default_factory=list)


class StructGreeting(msgspec.Struct):
    name: str


class DictGreeting(TypedDict):
    name: str
    loud: NotRequired[bool]


@attrs.define
class AttrsGreeting:
    name: str


class ModelGreeting(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName")
    sizes: list[int] = []


class OtherModel(pydantic.BaseModel):
    number: int


class Names(pydantic.RootModel[list[str]]):
    pass


@pydantic.dataclasses.dataclass
class ModelDataclass:
    name: str


@dataclass
class Priced:
    price: float | None


class ModelPriced(pydantic.BaseModel):
    price: float


@dataclass
class HoldsUnion:
    name: str
    either: ModelGreeting | OtherModel
    raw: bytes = b""


class StructHoldsUnion(msgspec.Struct):
    either: ModelGreeting | OtherModel


@dataclass
class Holder:
    model: ModelGreeting
    other: OtherModel | None = None


class Stranger:
    pass


@dataclass
class HoldsStranger:
    stranger: Stranger


class Message:
    """Looks like a protobuf message."""

    DESCRIPTOR = None

    def SerializeToString(self) -> bytes:
        return b""


VALUES: list[tuple[Any, Any, str]] = [
    (Greeting, Greeting("John", Kind.WARM, [Greeting("Joan")], datetime(2020, 1, 2, tzinfo=UTC)), ""),
    (Options, Options(), '{"loud":false,"tags":[]}'),
    (StructGreeting, StructGreeting("John"), '{"name":"John"}'),
    (DictGreeting, {"name": "John"}, '{"name":"John"}'),
    (AttrsGreeting, AttrsGreeting("John"), '{"name":"John"}'),
    (ModelGreeting, ModelGreeting(fullName="John"), '{"fullName":"John","sizes":[]}'),
    (Names, Names(["John"]), '["John"]'),
    (ModelDataclass, ModelDataclass("John"), '{"name":"John"}'),
    (Holder, Holder(ModelGreeting(fullName="John"), OtherModel(number=1)), ""),
    (list[ModelGreeting], [ModelGreeting(fullName="John")], '[{"fullName":"John","sizes":[]}]'),
    (dict[str, OtherModel], {"a": OtherModel(number=1)}, '{"a":{"number":1}}'),
    (ModelGreeting | OtherModel, OtherModel(number=1), '{"number":1}'),
    (OtherModel | None, None, "null"),
    (HoldsUnion, HoldsUnion("a", OtherModel(number=1), b"\xff"), '{"name":"a","either":{"number":1},"raw":"/w=="}'),
    (list[HoldsUnion], [HoldsUnion("a", ModelGreeting(fullName="b"))], ""),
    (dict[str, int], {"a": 1}, '{"a":1}'),
    (dict, {"a": [1, None]}, '{"a":[1,null]}'),
    (list[Greeting], [Greeting("John")], ""),
    (list, [1, "a"], '[1,"a"]'),
    (tuple[int, str], (1, "a"), '[1,"a"]'),
    (str, "<é>\n", '"<é>\\n"'),
    (int, -1, "-1"),
    (int, 2**70, str(2**70)),
    (float, 0.5, "0.5"),
    (bool, True, "true"),
    (None, None, "null"),
    (type(None), None, "null"),
    (Any, {"a": [1.5]}, '{"a":[1.5]}'),
    (int | str | None, "a", '"a"'),
    (Literal["a", "b"], "b", '"b"'),
    (uuid.UUID, uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
]


@pytest.mark.parametrize(("type", "value", "document"), VALUES, ids=[str(type) for type, _, _ in VALUES])
def test_a_payload_is_supported_and_comes_back_the_same(type: Any, value: Any, document: str) -> None:
    assert CODEC.supports(type)
    encoded = CODEC.encode(value)
    assert not document or encoded.decode() == document
    assert CODEC.decoder(type)(encoded) == value
    assert CODEC.decoder(type)(encoded + b"\n") == value


@pytest.mark.parametrize(
    "type",
    [
        bytes,
        bytearray,
        memoryview,
        Stranger,
        list[Stranger],
        HoldsStranger,
        object,
        type,
        Message,
        "Greeting",
        ...,
        complex,
    ],
)
def test_what_json_cannot_hold_is_not_supported(type: Any) -> None:
    assert not CODEC.supports(type)
    with pytest.raises(ConfigError):
        CODEC.decoder(type)


def test_a_type_that_neither_msgspec_nor_pydantic_takes_is_told_with_both_reasons() -> None:
    with pytest.raises(ConfigError, match=r"more than one custom type.*nor does pydantic take it: .*StructHoldsUnion"):
        CODEC.decoder(StructHoldsUnion)


@dataclass
class Plain:
    name: str
    count: int = 1
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Frozen:
    name: str
    currency: str = "EUR"
    plain: Plain | None = None


@dataclass(slots=True)
class Slotted:
    name: str
    inner: Frozen
    count: int = 1


class Tree(msgspec.Struct):
    frozen: dict[str, list[Frozen]]
    parent: "Tree | None" = None


@pytest.mark.parametrize(
    ("type", "body", "sent_on"),
    [
        (Plain, '{"name":"a"}', '{"name":"a","tags":[],"count":1}'),
        (Frozen, '{"name":"a"}', '{"name":"a","currency":"EUR","plain":null}'),
        (list[Frozen], '[{"name":"a","plain":{"name":"b"}}]', None),
        (Slotted, '{"name":"a","inner":{"name":"b"}}', None),
        (Tree, '{"frozen":{},"parent":{"frozen":{"x":[{"name":"a"}]}}}', None),
        (Plain | None, '{"name":"a"}', None),
    ],
)
def test_fields_that_the_sender_left_out_are_sent_on(type: Any, body: str, sent_on: str | None) -> None:
    value = CODEC.decoder(type)(body.encode())
    encoded = CODEC.encode(value)
    assert sent_on is None or json.loads(encoded) == json.loads(sent_on)
    assert json.loads(encoded) == json.loads(CODEC.encode(_rebuilt(value)))


def _rebuilt(value: Any) -> Any:
    """Return an equal value whose objects were made by their classes."""
    if isinstance(value, dict):
        return {key: _rebuilt(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rebuilt(item) for item in value]
    if isinstance(value, Plain | Frozen | Slotted | Tree):
        names = [each.name for each in fields(value)] if not isinstance(value, Tree) else ["frozen", "parent"]
        return type(value)(**{name: _rebuilt(getattr(value, name)) for name in names})
    return value


def test_a_type_without_such_defaults_costs_nothing() -> None:
    decode = decode_function(StructGreeting)
    assert with_defaults(StructGreeting, decode) is decode
    assert with_defaults(AttrsGreeting, decode) is decode
    assert with_defaults(Any, decode) is decode


def test_type_hints_that_cannot_be_resolved_are_told() -> None:
    @dataclass
    class Local:
        missing: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    assert not CODEC.supports(Local)
    with pytest.raises(ConfigError, match="Nowhere"):
        CODEC.decoder(Local)


@pytest.mark.parametrize(
    ("type", "body", "text"),
    [
        (Greeting, b'{"name":1}', "field 'name': expected str, got int"),
        (Greeting, b"{}", "field 'name' is missing"),
        (Greeting, b'{"name":"a","replies":[{}]}', "field 'replies[0].name' is missing"),
        (Greeting, b'{"name":"a","replies":[{"name":[]}]}', "field 'replies[0].name': expected str, got array"),
        (Greeting, b'{"name":"a","kind":"cold"}', "field 'kind': invalid enum value 'cold'"),
        (Greeting, b"null", "expected object, got null"),
        (Greeting, b"", "the body is empty: field 'name' is missing"),
        (int, b"1.5", "expected int, got float"),
        (ModelGreeting, b"{}", "field 'fullName': field required"),
        (
            Holder,
            b'{"model":{"fullName":"a","sizes":["x"]}}',
            "field 'model.sizes[0]': input should be a valid integer",
        ),
        (list[OtherModel], b'[{"number":1},{}]', "field '[1].number': field required"),
        (Any, b"\xff", "malformed JSON: "),
        (Any, b'"\xff"', "malformed JSON: no UTF-8 at byte 0"),
        (Any, b'{"a"', "malformed JSON: "),
    ],
)
def test_a_body_that_does_not_fit_names_the_field(type: Any, body: bytes, text: str) -> None:
    with pytest.raises(DecodeError) as caught:
        CODEC.decoder(type)(body)
    assert caught.value.detail.startswith(text)


def test_unknown_fields_are_ignored() -> None:
    assert CODEC.decoder(StructGreeting)(b'{"x":{"y":[1]},"name":"John"}') == StructGreeting("John")
    assert CODEC.decoder(ModelGreeting)(b'{"x":1,"fullName":"John"}').name == "John"


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (None, None),
        (Any, None),
        (int | None, None),
        (Options, Options()),
        (dict[str, int], {}),
        (list[int], []),
        (str, ""),
        (int, 0),
        (float, 0.0),
        (bool, False),
    ],
)
def test_no_bytes_are_the_zero_value(type: Any, value: Any) -> None:
    assert CODEC.decoder(type)(b"") == value


def test_the_zero_value_is_a_new_one_each_time() -> None:
    decode = CODEC.decoder(Options)
    decode(b"").tags.append("changed")
    assert decode(b"") == Options()


HOSTILE = [
    b"NaN",
    b"Infinity",
    b"1e999",
    b"1" * 100_000,
    b"-",
    b'"\\ud800"',
    b'"\xed\xa0\x80"',
    b'"\x00"',
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b"[1,]",
    b'{"a":1,}',
    b"'a'",
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' * 129 + b"1" + b"}" * 129,
    b'"\\"' + b"[" * 200,
]


@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body[:12]))
@pytest.mark.parametrize("type", [Any, Greeting, ModelGreeting, list[OtherModel], DictGreeting])
def test_a_hostile_document_is_a_decode_error(type: Any, body: bytes) -> None:
    with pytest.raises(DecodeError):
        CODEC.decoder(type)(body)


def test_depth_counts_in_unknown_fields_too() -> None:
    with pytest.raises(DecodeError, match="nested deeper than 128"):
        CODEC.decoder(StructGreeting)(b'{"name":"John","x":' + b"[" * 128 + b"]" * 128 + b"}")


@pytest.mark.parametrize(
    "document",
    [
        "[" * 128 + "]" * 128,
        json.dumps(["[" * 1000, '"' + "[" * 1000, "\\" * 301, '\\"' * 300 + "{" * 300, {"[" * 500: "]"}]),
        json.dumps([[]] * 1000),
        json.dumps(["\\", "[" * 200, "\\\\", "[" * 200, '"', "[" * 200]),
    ],
)
def test_brackets_that_do_not_nest_too_deep_are_no_offence(document: str) -> None:
    assert CODEC.decoder(Any)(document.encode()) == json.loads(document)


@pytest.mark.parametrize(
    "value", [Stranger(), object(), Message(), {"a": Stranger()}, "\ud800", {(1, 2): 3}, {1, Stranger()}]
)
def test_what_cannot_be_written_is_an_encode_error(value: Any) -> None:
    with pytest.raises(EncodeError):
        CODEC.encode(value)


def test_a_value_that_holds_itself_is_an_encode_error() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(EncodeError, match="holds itself"):
        CODEC.encode(value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([1, math.nan, math.inf], r"field '\[1\]' is nan"),
        (Priced(math.inf), "field 'price' is inf"),
        ({"a": {"b": -math.inf}}, "field 'a.b' is -inf"),
        (ModelPriced(price=math.nan), "field 'price' is nan"),
        ({"a": 2**70, "b": math.nan}, "field 'b' is nan"),
        (math.nan, "it is nan"),
    ],
)
def test_a_float_that_is_no_number_is_refused_where_it_is_written(value: Any, place: str) -> None:
    with pytest.raises(EncodeError, match=place):
        CODEC.encode(value)


@pytest.mark.parametrize(
    "value",
    [[None, 1.5], Priced(None), {"a": None, "b": b"\xcb\x7f\xf8"}, "null", None, {"null": 1e300}, [None, 2**70, 0.5]],
)
def test_none_beside_floats_is_written(value: Any) -> None:
    assert b"null" in CODEC.encode(value)


def test_only_none_is_native_and_nothing_to_the_legacy_codec() -> None:
    assert CODEC.native(None)
    assert CODEC.native(type(None))
    assert not CODEC.native(Greeting)
    assert not JsonRpcCodec().native(None)


def test_the_entry_point_gives_json_and_json_rpc() -> None:
    codecs = make_codec()
    assert [(codec.content_type, codec.legacy_content_type) for codec in codecs] == [
        ("application/json", "application/json-rpc"),
        ("application/json-rpc", ""),
    ]
    assert [codec.framing is None for codec in codecs] == [True, False]


def test_pydantic_is_not_imported() -> None:
    program = (
        "import sys; from micro_core.builtin.json.codec import JsonCodec; "
        "codec = JsonCodec(); codec.decoder(dict)(codec.encode({})); codec.supports(object); "
        "sys.exit('pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=30,
)


@given(DOCUMENTS)
def test_documents_round_trip(document: Any) -> None:
    encoded = CODEC.encode(document)
    assert CODEC.decoder(Any)(encoded) == document == json.loads(encoded)


LOOKALIKES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "kind", "replies", "at", "fullName", "model", "x"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(
    st.binary(max_size=200)
    | st.text(alphabet='[]{}":,\\0x', max_size=300).map(str.encode)
    | LOOKALIKES.map(lambda d: json.dumps(d).encode())
)
def test_random_bodies_are_a_value_or_a_decode_error(body: bytes) -> None:
    for type in (Any, Greeting, ModelGreeting, Holder, ModelGreeting | OtherModel, datetime, dict[int, float]):
        try:
            CODEC.decoder(type)(body)
        except DecodeError:
            pass
