"""Batches and acknowledgements: what is written is read, and nothing else is."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_broker_http.wire.batch import AckReader, again_line, decode_batch, encode_batch, encode_item
from micro_core import DecodeError, Delivery, Message, ProtocolError
from micro_core.delivery import Again

PUBLISHER = b"0123456789ab"
# docs/protocol.md §7: one message, number 5, {"A": "b"}, "hi"
EXAMPLE = b"\x92\xc4\x0c0123456789ab\x91\x93\x05\x81\xc4\x01A\xc4\x01b\xc4\x02hi"
_messages = st.builds(Message, st.dictionaries(st.binary(), st.binary(), max_size=4), st.binary(max_size=100))


def test_the_example_is_written_and_read():
    assert encode_batch(PUBLISHER, [encode_item(5, Message({b"A": b"b"}, b"hi"))]) == EXAMPLE
    batch = decode_batch(EXAMPLE)
    [item] = batch.items
    assert (batch.publisher, item.number, item.headers, item.body) == (PUBLISHER, 5, {b"A": b"b"}, b"hi")


@given(messages=st.lists(_messages, min_size=1, max_size=8))
def test_a_batch_is_read_as_it_was_written(messages):
    data = encode_batch(PUBLISHER, [encode_item(number, message) for number, message in enumerate(messages)])
    assert [Message(item.headers, item.body) for item in decode_batch(data).items] == messages


@given(messages=st.lists(_messages, min_size=1, max_size=4), cut=st.floats(min_value=0, max_value=1, exclude_max=True))
def test_a_truncated_batch_is_refused(messages, cut):
    data = encode_batch(PUBLISHER, [encode_item(number, message) for number, message in enumerate(messages)])
    with pytest.raises(DecodeError):
        decode_batch(data[: int(len(data) * cut)])


@given(data=st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: EXAMPLE[:18] + tail))
def test_random_bytes_are_read_or_refused(data):
    try:
        decode_batch(data)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        EXAMPLE + b"\x00",
        b"\x92\xc4\x0c0123456789ab\x90",
        b"\x92\xc4\x07short!!\x91\x93\x05\x80\xc4\x00",
        b"\x92\xac0123456789ab\x91\x93\x05\x80\xc4\x00",
        b"\x92\xc4\x0c0123456789ab\x91\x93\xff\x80\xc4\x00",
        b"\x92\xc4\x0c0123456789ab\x91\x93\x05\x81\xa1\xff\xa1\xff\xc4\x00",
        b"\x92\xc4\x0c0123456789ab\x91\x94\x05\x80\xc4\x00\xc0",
        b"\x91" * 1_000_000,
    ],
    ids=["tail", "empty", "short publisher", "text", "negative", "text headers", "one more", "nested"],
)
def test_what_is_no_batch_is_one_typed_error(data):
    with pytest.raises(DecodeError):
        decode_batch(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x92\xc4\x0c0123456789ab\xdd\xff\xff\xff\xff\x93",
        b"\x92\xc4\x0c0123456789ab\xdd\x00\x00\x01\x00",
        b"\x92\xc4\x0c0123456789ab\x91\x93\x05\xdf\xff\xff\xff\xff",
        b"\x92\xc4\x0c0123456789ab\x91\x93\x05\x80\xc6\xff\xff\xff\xff",
    ],
)
def test_claimed_lengths_are_not_allocated(data):
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode_batch(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_answer_is_read_byte_by_byte():
    reader = AckReader(12)
    said = [reader.feed(bytes([byte])) for byte in b"\n3\n\n10\n12\n"]
    assert said == [0, 0, 3, 3, 3, 3, 10, 10, 10, 12]
    assert reader.complete


def test_an_answer_tells_what_was_given_up_whether_there_is_room_and_that_it_is_the_last():
    reader = AckReader(12)
    reader.feed(b"!2\n3\n+\n-\n")
    assert (reader.acknowledged, reader.given_up, reader.room, reader.left) == (3, {1}, True, True)


def test_an_answer_tells_what_is_to_be_sent_again_when_and_as_which_attempt():
    reader = AckReader(12)
    reader.feed(again_line(2, Again(after=1.5, attempt=3)) + b"3\n")
    assert (reader.acknowledged, reader.again) == (3, {1: Again(after=1.5, attempt=3)})


def test_what_is_sent_again_says_which_attempt_it_is():
    item = encode_item(5, Message({}, b"hi"), 1.7e9, 3, True)
    [read] = decode_batch(encode_batch(PUBLISHER, [item])).items
    delivery = read.delivery(PUBLISHER.hex())
    assert delivery == Delivery(id=f"{PUBLISHER.hex()}-5", time=1.7e9, attempt=3, redelivered=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"!0\n",
        b"!13\n",
        b"!\n",
        b"++\n",
        b"13\n",
        b"3\n2\n",
        b"-1\n",
        b"x\n",
        b" 1\n",
        b"1\r\n",
        b"9" * 9 + b"\n",
        b"9" * 33,
        b"~\n",
        b"~13 2 100\n",
        b"~1 2\n",
        b"~1 -2 100\n",
        b"~1 2 99999999999\n",
        "²\n".encode(),
    ],
)
def test_what_acknowledges_nothing_breaks_the_protocol(answer):
    with pytest.raises(ProtocolError):
        AckReader(12).feed(answer)


@given(pieces=st.lists(st.binary(max_size=12)))
def test_random_answers_never_acknowledge_more_than_was_sent(pieces):
    reader = AckReader(100)
    try:
        for piece in pieces:
            assert 0 <= reader.feed(piece) <= 100
    except ProtocolError:
        pass
