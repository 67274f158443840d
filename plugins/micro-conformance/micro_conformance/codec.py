"""What every codec owes: the promises of `micro_core.codec`."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, make_dataclass
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from micro_conformance.suite import Suite, promise
from micro_core import Codec, DecodeError, EncodeError, Framing

__all__ = ["CodecConformance", "Sample"]


HOSTILE_VALUES = (
    "\ud800",
    2**64,
    -(2**70),
    10**400,
    float("nan"),
    float("inf"),
    {"a": {1, 2}},
    {b"\xff": 1},
    1j,
    "x" * 10**6,
)
"""Text that is no Unicode, numbers that fit nowhere, containers of other languages."""


@dataclass
class Sample:
    """A payload of the usual fields."""

    name: str
    count: int = 0
    ratio: float = 0.0
    flag: bool = False
    tags: list[str] = field(default_factory=list)
    more: dict[str, int] = field(default_factory=dict)


SAMPLES: Sequence[tuple[Any, Any]] = (
    (Sample, Sample(name="Grüße 🙂", count=-1, ratio=0.5, flag=True, tags=["a", ""], more={"x": 2**53 - 1})),
    (Sample, Sample(name="")),
    (dict[str, list[int]], {"a": [1, 2], "": []}),
    (Any, {"a": [1, "b", None, True, 0.25], "c": {"d": {}}}),
    (list[str], ["a", '\n\t"\\', "\u2028"]),
    (str, "text"),
    (int, 7),
    (bool, True),
    (bytes, bytes(range(256))),
    (bytes, b""),
    (None, None),
)

HOSTILE = (
    b"[" * 100_000, b'{"a":' * 100_000, b'"' + b"\\" * 99_999, b"9" * 100_000, b"1e" + b"9" * 50, b'"\\ud800"',
    b"\xff" * 1000, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 100_000, b"\x80" * 100, b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff\x00", b"\xef\xbb\xbf{}", b"NaN", b"\0",
)  # fmt: skip
"""Deep nesting, long numbers, lengths that lie, broken text."""

anything = settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,  # which a busy machine is
    ],
)


class CodecConformance(Suite):
    """Subclass it, and give ``plugin`` and ``options``; ``samples`` where the codec is for types of its own."""

    kind = "codec"
    capabilities: ClassVar[Mapping[str, str]] = {
        "framing": "one of the codecs puts an envelope round bodies",
        "dataclasses": "dataclasses are coded, and a field that does not fit is named",
    }
    samples: ClassVar[Sequence[tuple[Any, Any]]] = SAMPLES
    """Types and values of them; those that a codec does not support are left out."""

    def codecs(self) -> Sequence[Codec]:
        """Return the codecs that the plugin makes."""
        made = self.make()
        codecs = [made] if isinstance(made, Codec) else list(made)
        assert codecs
        assert all(isinstance(codec, Codec) for codec in codecs)
        return codecs

    def cases(self) -> Iterator[tuple[Codec, Any, Any]]:
        """Yield each codec with each type and value that it supports."""
        found = False
        for codec in self.codecs():
            for kind, value in self.samples:
                if codec.supports(kind):
                    found = True
                    yield codec, kind, copy.deepcopy(value)
        assert found, "none of the samples is supported: give samples of your own"

    def framings(self) -> Sequence[Framing]:
        """Return the envelopes of the codecs that have one."""
        framings = [codec.framing for codec in self.codecs() if codec.framing is not None]
        assert framings, "framing is claimed, and no codec has one"
        return framings

    # Values

    @promise()
    def test_what_was_encoded_is_decoded_to_the_same(self) -> None:
        for codec, kind, value in self.cases():
            assert codec.decoder(kind)(codec.encode(copy.deepcopy(value))) == value

    @promise()
    def test_encoding_gives_bytes(self) -> None:
        assert {type(codec.encode(value)) for codec, _, value in self.cases()} == {bytes}

    @promise()
    def test_a_decoder_can_be_used_again_and_shares_nothing(self) -> None:
        for codec, kind, value in self.cases():
            decode, body = codec.decoder(kind), codec.encode(value)
            first = decode(body)
            if isinstance(first, dict | list):
                first.clear()
            assert decode(body) == codec.decoder(kind)(body)

    @promise()
    @anything
    @given(body=st.binary(min_size=1, max_size=200))
    def test_random_bytes_are_a_value_or_a_decode_error(self, body: bytes) -> None:
        for codec, kind, _ in self.cases():
            decoded_or_refused(codec.decoder(kind), body)

    @promise()
    def test_hostile_bytes_are_a_value_or_a_decode_error(self) -> None:
        for codec, kind, _ in self.cases():
            for body in HOSTILE:
                decoded_or_refused(codec.decoder(kind), body)

    @promise()
    @anything
    @given(data=st.data())
    def test_damaged_bytes_are_a_value_or_a_decode_error(self, data: st.DataObject) -> None:
        for codec, kind, value in self.cases():
            body = bytearray(codec.encode(value))
            if len(body) > 7:
                where = data.draw(st.integers(1, len(body) - 1))
                body[where] = data.draw(st.integers(0, 255))
                decoded_or_refused(codec.decoder(kind), bytes(body))
                decoded_or_refused(codec.decoder(kind), bytes(body[:where]))

    @promise()
    def test_no_bytes_at_all_are_a_value_or_a_decode_error(self) -> None:
        for codec, kind, _ in self.cases():
            decoded_or_refused(codec.decoder(kind), b"")

    @promise()
    def test_what_cannot_be_coded_is_an_encode_error(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        for codec in self.codecs():
            for value in (object(), endless, lambda: None, {"a": object()}):
                with pytest.raises(EncodeError):
                    codec.encode(value)

    @promise(needs="dataclasses")
    def test_a_field_that_does_not_fit_is_named(self) -> None:
        for codec in self.of_dataclasses():
            body = codec.encode({"name": "a", "count": "not a number"})
            with pytest.raises(DecodeError, match="count"):
                codec.decoder(Sample)(body)

    @promise()
    def test_what_is_decoded_has_the_types_that_it_had(self) -> None:
        for codec, kind, value in self.cases():
            assert types_in(codec.decoder(kind)(codec.encode(copy.deepcopy(value)))) == types_in(value)

    @promise()
    def test_encoding_leaves_the_value_as_it_is(self) -> None:
        for codec, _, value in self.cases():
            before = copy.deepcopy(value)
            codec.encode(value)
            assert value == before

    @promise()
    def test_integers_of_64_bits_keep_every_bit(self) -> None:
        for codec in (codec for codec in self.codecs() if codec.supports(int)):
            for number in (2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)):
                assert codec.decoder(int)(codec.encode(number)) == number

    @promise()
    def test_floats_keep_every_bit(self) -> None:
        for codec in (codec for codec in self.codecs() if codec.supports(float)):
            for number in (0.1 + 0.2, 1e-300, 5e-324, 1.7976931348623157e308, -1 / 3):
                assert codec.decoder(float)(codec.encode(number)) == number

    @promise()
    def test_hostile_values_are_bytes_or_an_encode_error(self) -> None:
        for codec in self.codecs():
            for value in HOSTILE_VALUES:
                with contextlib.suppress(EncodeError):
                    codec.encode(value)

    # Dataclasses

    @promise(needs="dataclasses")
    def test_bytes_behind_a_value_are_a_decode_error(self) -> None:
        for codec in self.of_dataclasses():
            for more in (b"x", b"\0", codec.encode(Sample("b"))):
                with pytest.raises(DecodeError):
                    codec.decoder(Sample)(codec.encode(Sample("a")) + more)

    @promise(needs="dataclasses")
    def test_a_field_that_is_missing_is_named(self) -> None:
        for codec in self.of_dataclasses():
            with pytest.raises(DecodeError, match="name"):
                codec.decoder(Sample)(codec.encode({"count": 1}))

    @promise(needs="dataclasses")
    def test_a_field_that_nobody_knows_is_passed_over(self) -> None:
        for codec in self.of_dataclasses():
            assert codec.decoder(Sample)(codec.encode({"name": "a", "newer": [{"x": 1}]})) == Sample("a")

    @promise(needs="dataclasses")
    def test_fields_with_their_usual_values_are_sent_too(self) -> None:
        for codec in self.of_dataclasses():
            for sample in (Sample("a"), codec.decoder(Sample)(codec.encode({"name": "a"}))):
                assert codec.decoder(dict[str, Any])(codec.encode(sample)) == vars(Sample("a"))

    @promise(needs="dataclasses")
    def test_types_of_one_name_do_not_mix(self) -> None:
        other = make_dataclass("Sample", [("other", int)])
        for codec in self.of_dataclasses():
            codec.decoder(Sample)
            assert codec.decoder(other)(codec.encode({"other": 7})) == other(7)

    def of_dataclasses(self) -> Sequence[Codec]:
        """Return the codecs that support dataclasses."""
        codecs = [codec for codec in self.codecs() if codec.supports(Sample)]
        assert codecs, "dataclasses are claimed, and no codec supports one"
        return codecs

    # What a codec says of itself

    @promise()
    def test_the_content_type_is_one_without_parameters(self) -> None:
        for codec in self.codecs():
            assert re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]+", codec.content_type)
            assert codec.name

    @promise()
    def test_a_native_type_is_a_supported_one(self) -> None:
        for codec in self.codecs():
            for kind in (*(kind for kind, _ in self.samples), Sample, object, Iterator, "Forward", 7):
                assert codec.supports(kind) or not codec.native(kind)

    # Framing

    @promise(needs="framing")
    @anything
    @given(
        endpoint=st.from_regex(r"[A-Z][A-Za-z]{0,9}\.[A-Z][A-Za-z]{0,9}", fullmatch=True), id=st.integers(0, 2**63 - 1)
    )
    @example(endpoint="Greeter.Hello", id=0)
    def test_a_request_comes_out_of_its_envelope_as_it_went_in(self, endpoint: str, id: int) -> None:
        for framing in self.framings():
            for body in self.bodies():
                assert framing.unpack_request(framing.pack_request(endpoint, id, body)) == (endpoint, id, body)

    @promise(needs="framing")
    @anything
    @given(id=st.integers(0, 2**63 - 1))
    def test_a_reply_comes_out_of_its_envelope_as_it_went_in(self, id: int) -> None:
        for framing in self.framings():
            for body in self.bodies():
                assert framing.unpack_reply(framing.pack_reply("Greeter.Hello", id, body, "")) == (id, body, "")

    @promise(needs="framing")
    def test_an_error_comes_out_of_its_envelope_as_it_went_in(self) -> None:
        for framing in self.framings():
            for text in ("x", "not found: Grüße", '{"id":"greeter","code":404,"detail":"a \\"b\\""}'):
                assert framing.unpack_reply(framing.pack_reply("Greeter.Hello", 7, b"", text))[2] == text

    @promise(needs="framing")
    @anything
    @given(message=st.binary(max_size=200))
    def test_random_bytes_are_an_envelope_or_a_decode_error(self, message: bytes) -> None:
        for framing in self.framings():
            decoded_or_refused(framing.unpack_request, message)
            decoded_or_refused(framing.unpack_reply, message)

    @promise(needs="framing")
    def test_hostile_bytes_are_an_envelope_or_a_decode_error(self) -> None:
        for framing in self.framings():
            for message in HOSTILE:
                decoded_or_refused(framing.unpack_request, message)
                decoded_or_refused(framing.unpack_reply, message)

    def bodies(self) -> list[bytes]:
        """Return encoded samples of the codecs that have an envelope."""
        return [codec.encode(value) for codec, _, value in self.cases() if codec.framing is not None]


def types_in(value: Any) -> Any:
    """Return the types of a value and of what is in it."""
    if isinstance(value, dict):
        return {name: types_in(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [types_in(item) for item in value]
    return type(value), types_in(vars(value)) if is_dataclass(value) else None


def decoded_or_refused(decode: Callable[[bytes], Any], body: bytes) -> None:
    """Decode, where `DecodeError` is as good as a value and every other exception is a fault."""
    try:
        decode(body)
    except DecodeError as error:
        if not str(error):
            pytest.fail("a decode error says what is wrong")
