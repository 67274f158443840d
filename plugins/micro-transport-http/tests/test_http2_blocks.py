"""HPACK that remembers: whoever is at the other end cannot tell it from one that does not."""

from __future__ import annotations

from typing import Any

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from micro_core import EncodeError, Head
from micro_transport_http.http2.broken import ConnectionBroken
from micro_transport_http.http2.header_list import Malformed, Start, request_of
from micro_transport_http.http2.reading_blocks import BlockReader
from micro_transport_http.http2.writing_blocks import BlockWriter, mended

FIRST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"127.0.0.1:80")]

NAMES = st.sampled_from([b"Content-Type", b"Micro-Endpoint", b"X-A", b"X-B"])
VALUES = st.sampled_from([b"", b"application/json", b"Greeter.Hello", b"\xff\xfe", b"v" * 900, b"w" * 5000])
ALONE = st.dictionaries(st.sampled_from([b"Timeout", b"Micro-Id", b"Traceparent", b"X-A"]), VALUES | st.just(b"7"))
PLAIN = st.sampled_from([b"x-a", b"x-b", b"timeout"])
HEADS = st.lists(st.dictionaries(NAMES, VALUES).map(Head), min_size=1, max_size=4)


class Remembering:
    """Everything that a reader understood, and what a plain decoder makes of the same block."""

    def __init__(self, most: int = 1 << 20) -> None:
        self.reader = BlockReader(request_of, most)
        self.plain = Decoder(most)

    def read(self, block: bytes) -> dict[bytes, bytes]:
        _, headers = self.reader.read(block)
        fields = list(self.plain.decode(block, raw=True))
        assert headers == request_of(fields)[1]
        return headers


@given(heads=HEADS, sent=st.lists(st.tuples(st.integers(0, 3), ALONE) | st.sampled_from([0, 64, 4096]), max_size=20))
def test_what_is_written_is_read_by_everybody(heads: list[Head], sent: Any) -> None:
    """Between the messages the table may get another size."""
    writer, remembering = BlockWriter(FIRST), Remembering()
    for each in sent:
        if isinstance(each, int):
            writer.resize(each)
            continue
        head, headers = heads[each[0] % len(heads)], each[1]
        expected = {**head.headers, **headers}
        assert remembering.read(writer.message(head, headers)) == expected


@given(messages=st.lists(st.tuples(st.lists(st.tuples(PLAIN, VALUES), max_size=4), st.booleans()), max_size=12))
def test_what_others_write_is_read(messages: Any) -> None:
    encoder, remembering = Encoder(), Remembering()
    for fields, huffman in messages:
        remembering.read(encoder.encode([*FIRST, *fields], huffman=huffman))


@given(blocks=st.lists(st.binary(max_size=12) | st.binary(max_size=4).map(lambda tail: b"\x83\x86\x84" + tail)))
def test_nonsense_is_refused_as_by_everybody(blocks: list[bytes]) -> None:
    remembering = Remembering(300)
    for block in blocks:
        try:
            remembering.read(block)
        except Malformed:
            with pytest.raises(Malformed):
                request_of(list(remembering.plain.decode(block, raw=True)))
        except ConnectionBroken:
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever hpack has for it
                list(remembering.plain.decode(block, raw=True))
            return  # a connection ends there


@given(values=st.lists(st.sampled_from([b"5", b"123", b"a b", b"\x7f", b"", b"x" * 126, b"x" * 127, b"x" * 200])))
def test_the_last_value_of_a_known_block_is_read_anew(values: list[bytes]) -> None:
    encoder, remembering = Encoder(), Remembering()
    for value in values * 3:
        tail = b"\x10\x07timeout" + encoder._encode_literal(b"", value, b"", False)[1:]
        block = encoder.encode([*FIRST], huffman=False) + tail
        try:
            assert remembering.read(block) == {b"Timeout": value}
        except Malformed:
            list(remembering.plain.decode(block, raw=True))
            assert value in (b"\x7f",)


def test_a_known_block_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, reader, head = BlockWriter(FIRST), BlockReader(request_of, 4096), Head({b"Micro-Endpoint": b"A.B"})
    for number in range(3):
        reader.read(writer.message(head, {b"Timeout": b"%d" % number}))
    monkeypatch.setattr(reader, "fields", None)
    for number in (4, 50_000_000_000):
        assert reader.read(writer.message(head, {b"Timeout": b"%d" % number}))[1] == {
            b"Micro-Endpoint": b"A.B",
            b"Timeout": b"%d" % number,
        }


def test_a_block_that_was_not_sent_leaves_the_table_as_it_was() -> None:
    writer, remembering = BlockWriter(FIRST), Remembering()
    for wrong in ({b"X-New": b"1", b"bad name": b"2"}, {b"X-New": b"1", b"X-Line": b"a\nb"}):
        with pytest.raises(EncodeError):
            writer.message(Head(wrong), {})
        with pytest.raises(EncodeError):
            writer.message(Head({b"X-New": b"1"}), {**wrong, b"X-Other": b"2"})
    assert remembering.read(writer.message(Head({b"X-A": b"1"}), {})) == {b"X-A": b"1"}


def test_a_list_that_is_too_large_together_is_refused() -> None:
    writer, reader = BlockWriter(FIRST), BlockReader(request_of, 700)
    head = Head({b"X-A": b"a" * 100, b"X-B": b"b" * 100})
    for number in range(3):
        reader.read(writer.message(head, {b"Timeout": b"%d" % number}))
    with pytest.raises(ConnectionBroken):
        reader.read(writer.message(head, {b"Timeout": b"1" * 400}))


def test_memory_is_bounded_whatever_comes() -> None:
    writer, reader = BlockWriter(FIRST), BlockReader(lambda fields: (Start(), {}), 1 << 20)
    for number in range(3000):
        writer.message(Head({b"X-A": b"%d" % number, b"X-Large": b"%5000d" % number}), {})
        reader.read(bytes(0x81 + (number >> shift) % 61 for shift in (0, 3, 6)))
        reader.read(b"\x83\x86" + b"\x10\x03x-a\x02%02d" % (number % 100) + b"\x10\x07x-%05d\x01z" % number)
    assert len(writer.known) <= 1024
    assert len(writer._hpack.header_table.dynamic_entries) <= 4096 // 32
    assert len(reader._known) <= 64
    assert len(reader._but_last) <= 64


def test_a_full_table_loses_nothing_and_what_differs_is_not_in_it() -> None:
    writer = BlockWriter(FIRST)
    first = Head({b"X-First": b"1", b"Authorization": b"Bearer x", b"Micro-Id": b"7"})
    writer.message(first, {})
    for number in range(500):
        writer.message(Head({b"X-A": b"%d" % number}), {})
    entries = [tuple(entry) for entry in writer._hpack.header_table.dynamic_entries]
    assert (b"x-first", b"1") in entries
    assert {name for name, _ in entries} == {b":authority", b"x-first", b"x-a"}


def test_what_cannot_be_written_is_mended() -> None:
    assert mended({b"bad name": b"x", b"X-A": b"fine", b"X-B": b"one\ntwo"}) == {b"X-A": b"fine", b"X-B": b"one two"}
