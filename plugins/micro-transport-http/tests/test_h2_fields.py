"""HPACK that remembers: whoever is at the other end cannot tell it from one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Decoder, Encoder, HPACKError, NeverIndexedHeaderTuple, OversizedHeaderListError
from hypothesis import example, given
from hypothesis import strategies as st

from micro_core import Head
from micro_transport_http.http2.fields import RepeatingDecoder, RepeatingEncoder, fields_of, mended


class Large(bytes):
    """A value that hypothesis can show: messages full of them would be longer than it is willing to print."""

    def __repr__(self) -> str:
        return f"Large({self[:1]!r} * {len(self)})"


# Few names and values, so that fields come again; some fill the table, or are too large for it.
NAMES = st.sampled_from([b":method", b":path", b"content-type", b"micro-endpoint", b"x-a", b"x-b"])
VALUES = st.sampled_from([b"", b"POST", b"/", b"application/json", b"\xff" * 3, Large(b"v" * 900), Large(b"w" * 5000)])
PLAIN = st.tuples(NAMES, VALUES)
NEVER = st.builds(
    NeverIndexedHeaderTuple, st.sampled_from([b"authorization", b"content-length", b"micro-id", b"x" * 200]), VALUES
)
MESSAGES = st.lists(st.lists(PLAIN | NEVER, max_size=8) | st.sampled_from([0, 64, 200, 4096]), max_size=12)


def pairs(fields: Any) -> list[Any]:
    return [(type(field), *field) for field in fields]


def indexable(fields: Any) -> list[Any]:
    return [(getattr(field, "indexable", True), *field) for field in fields]


SIZE_SET_TWICE = [0, [], 64, 64, [(b"x-a", b"")], [(b"x-a", b"")]]


@given(messages=MESSAGES)
@example(messages=SIZE_SET_TWICE)
def test_what_is_written_is_read_by_everybody(messages: Any) -> None:
    """Between the messages the table may get another size."""
    encoder, theirs, ours = RepeatingEncoder(), Decoder(1 << 20), RepeatingDecoder()
    ours.max_header_list_size = 1 << 20
    for message in messages:
        if isinstance(message, int):
            encoder.header_table_size = message
            continue
        block = encoder.encode(message)
        read = theirs.decode(block, raw=True)
        assert indexable(read) == indexable(message)
        assert pairs(ours.decode(block, raw=True)) == pairs(read)


@given(messages=MESSAGES)
def test_what_others_write_is_read(messages: Any) -> None:
    encoder, theirs, ours = Encoder(), Decoder(1 << 20), RepeatingDecoder()
    ours.max_header_list_size = 1 << 20
    for message in messages:
        if isinstance(message, int):
            if message != encoder.header_table_size:  # hpack's own encoder does not say what it is set to twice
                encoder.header_table_size = message
            continue
        block = encoder.encode(message, huffman=len(message) % 2 == 0)
        assert pairs(ours.decode(block, raw=True)) == pairs(theirs.decode(block, raw=True))


@given(blocks=st.lists(st.binary(max_size=12) | st.binary(max_size=4).map(lambda tail: b"\x83\x86\xbe" + tail)))
def test_nonsense_is_refused_as_by_everybody(blocks: list[bytes]) -> None:
    theirs, ours = Decoder(300), RepeatingDecoder()
    ours.max_header_list_size = 300
    for block in blocks:
        outcomes: list[Any] = []
        for decoder in (theirs, ours):
            try:
                outcomes.append(pairs(decoder.decode(block, raw=True)))
            except HPACKError as error:
                outcomes.append(type(error))
        assert outcomes[0] == outcomes[1]
        if isinstance(outcomes[0], type):
            return  # a connection ends there


def test_a_list_that_is_too_large_together_is_refused() -> None:
    encoder, decoder = RepeatingEncoder(), RepeatingDecoder()
    decoder.max_header_list_size = 500
    run = [(b"x-a", b"a" * 100), (b"x-b", b"b" * 100)]
    for _ in range(3):
        decoder.decode(encoder.encode(run), raw=True)
    with pytest.raises(OversizedHeaderListError):
        decoder.decode(encoder.encode([*run, NeverIndexedHeaderTuple(b"micro-id", b"1" * 200)]), raw=True)


def test_a_new_size_of_the_table_behind_fields_is_refused_also_where_these_are_known() -> None:
    decoder = RepeatingDecoder()
    for _ in range(2):
        decoder.decode(b"\x83\x86", raw=True)
    with pytest.raises(HPACKError):
        decoder.decode(b"\x83\x86\x20", raw=True)


def test_memory_is_bounded_whatever_comes() -> None:
    encoder, decoder = RepeatingEncoder(), RepeatingDecoder()
    for number in range(500):
        encoder.encode([(b"x-a", b"%d" % number), (b"x-large", b"%5000d" % number)])
        decoder.decode(bytes(0x81 + (number >> shift) % 61 for shift in (0, 3, 6)), raw=True)
    assert len(encoder._known) <= 200
    assert len(decoder._known) <= 64


def test_what_differs_comes_last_and_stays_out_of_the_tables() -> None:
    encoder, decoder, blocks = RepeatingEncoder(), RepeatingDecoder(), []
    head = Head({b"Timeout": b"0", b"Content-Type": b"application/json", b"Authorization": b"Bearer x"})
    for number in range(3):
        first = [(b":status", b"200"), (b"content-length", b"%d" % number), (b"micro-id", b"%d" % number)]
        fields = mended(fields_of(first, head, {b"Timeout": b"%d" % number}))
        blocks.append(encoder.encode(fields))
        decoder.decode(blocks[-1], raw=True)
    names = [name for name, _ in fields]
    assert names == [b":status", b"content-type", b"content-length", b"micro-id", b"timeout", b"authorization"]
    assert list(decoder.header_table.dynamic_entries) == [(b"content-type", b"application/json")]
    assert blocks[1][:2] == blocks[2][:2]
    assert max(blocks[1][:2]) < 0xFF


def test_what_cannot_be_written_is_mended() -> None:
    secret = NeverIndexedHeaderTuple(b"micro-error", b" a\r\nb ")
    fields = [(b":status", b"200"), (b"bad name", b"x"), (b"x-a", b"fine"), (b"x-b", b"\tone\ntwo\x00 "), secret]
    got = mended(fields)
    assert got == [(b":status", b"200"), (b"x-a", b"fine"), (b"x-b", b"one two"), (b"micro-error", b"a  b")]
    assert isinstance(got[-1], NeverIndexedHeaderTuple)
