"""The proto-rpc envelope: the worked examples of docs/wire.md §10.6 and §3.5 in both directions, and hostile bytes."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError as ProtobufDecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from micro_codec_proto._protorpc import ProtoRpcFraming
from micro_core import DecodeError

FRAMING = ProtoRpcFraming()
FIELD = descriptor_pb2.FieldDescriptorProto

JOHN = bytes.fromhex("0a044a6f686e")
REQUEST = bytes.fromhex("000000180a0d477265657465722e48656c6c6f11000000000000000000000006" + JOHN.hex())
REQUEST_WITHOUT_ZEROS = bytes.fromhex("0000000f0a0d477265657465722e48656c6c6f00000006" + JOHN.hex())
REPLY = bytes.fromhex("0000000d0a0011030000000000000" + "01a00" + "00000006") + JOHN
REPLY_WITHOUT_ZEROS = bytes.fromhex("00000009110300000000000000" + "00000006") + JOHN
ERROR = bytes.fromhex("000000110a001100000000000000001a04626f6f6d00000000")
ERROR_WITHOUT_ZEROS = bytes.fromhex("000000061a04626f6f6d00000000")


def netstring(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


@pytest.fixture(scope="session")
def envelope() -> Any:
    """An envelope as protobuf itself writes and reads it."""
    file = descriptor_pb2.FileDescriptorProto(name="envelope.proto", package="test", syntax="proto3")
    message = file.message_type.add(name="Envelope")
    message.field.add(name="service_method", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    message.field.add(name="seq", number=2, type=FIELD.TYPE_FIXED64, label=FIELD.LABEL_OPTIONAL)
    message.field.add(name="error", number=3, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Envelope"))


def test_a_request_is_written_as_v1_writes_it() -> None:
    assert FRAMING.pack_request("Greeter.Hello", 0, JOHN) == REQUEST


@pytest.mark.parametrize("message", [REQUEST, REQUEST_WITHOUT_ZEROS], ids=["v1", "v6"])
def test_a_request_of_either_form_is_read(message: bytes) -> None:
    assert FRAMING.unpack_request(message) == ("Greeter.Hello", 0, JOHN)


def test_a_reply_is_written_as_v1_writes_it() -> None:
    assert FRAMING.pack_reply("Greeter.Hello", 3, JOHN, "") == REPLY


@pytest.mark.parametrize("message", [REPLY, REPLY_WITHOUT_ZEROS], ids=["v1", "v5"])
def test_a_reply_of_either_form_is_read(message: bytes) -> None:
    assert FRAMING.unpack_reply(message) == (3, JOHN, "")


def test_an_error_is_written_without_id_and_body() -> None:
    assert FRAMING.pack_reply("Greeter.Hello", 3, JOHN, "boom") == ERROR


@pytest.mark.parametrize("message", [ERROR, ERROR_WITHOUT_ZEROS], ids=["v1", "v5"])
def test_an_error_of_either_form_is_read(message: bytes) -> None:
    assert FRAMING.unpack_reply(message) == (0, b"", "boom")


def test_the_body_beside_an_error_is_ignored() -> None:
    assert FRAMING.unpack_reply(netstring(b"\x1a\x04boom") + netstring(JOHN)) == (0, b"", "boom")


def test_unknown_fields_of_the_envelope_are_skipped() -> None:
    unknown = b"\x20\x96\x01" + b"\x2d\x01\x02\x03\x04" + b"\x31" + bytes(8) + b"\x3a\x02hi"
    assert FRAMING.unpack_request(netstring(unknown + b"\x0a\x03A.B") + netstring(b"")) == ("A.B", 0, b"")


@pytest.mark.parametrize("length", range(len(REQUEST)))
def test_a_request_cut_short_anywhere_is_a_decode_error(length: int) -> None:
    with pytest.raises(DecodeError, match="proto-rpc"):
        FRAMING.unpack_request(REQUEST[:length])


@pytest.mark.parametrize(
    "message",
    [
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xffabc",
        REQUEST + b"x",
        netstring(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f") + netstring(b""),
        netstring(b"\x0a" + b"\xff" * 11) + netstring(b""),
        netstring(b"\x0a\x02\xff\xfe") + netstring(b""),
        netstring(b"\x11\x00") + netstring(b""),
        netstring(b"\x0b\x0c") + netstring(b""),
        netstring(b"\x02\x00") + netstring(b""),
    ],
)
def test_a_malformed_message_is_a_decode_error(message: bytes) -> None:
    with pytest.raises(DecodeError, match="proto-rpc"):
        FRAMING.unpack_request(message)
    with pytest.raises(DecodeError, match="proto-rpc"):
        FRAMING.unpack_reply(message)


@given(st.text(max_size=200), st.integers(0, 2**64 - 1), st.binary(max_size=100))
def test_requests_round_trip(endpoint: str, id: int, body: bytes) -> None:
    assert FRAMING.unpack_request(FRAMING.pack_request(endpoint, id, body)) == (endpoint, id, body)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=100), st.text(max_size=200))
def test_replies_round_trip(id: int, body: bytes, error: str) -> None:
    expected = (0, b"", error) if error else (id, body, "")
    assert FRAMING.unpack_reply(FRAMING.pack_reply("Greeter.Hello", id, body, error)) == expected


@given(st.text(max_size=200), st.integers(0, 2**64 - 1))
def test_protobuf_reads_the_same_envelope(envelope: Any, endpoint: str, id: int) -> None:
    message = FRAMING.pack_request(endpoint, id, b"")
    parsed = envelope.FromString(message[4:-4])
    assert (parsed.service_method, parsed.seq) == (endpoint, id)


@given(st.binary(max_size=60))
@example(b"\x0a\x03A.B\x0a\x00")
@example(b"\x08\x01")
@example(b"\x88\x80\x80\x80\x80\x80\x80\x80\x80\x01\x01")
def test_what_protobuf_reads_is_read_alike(envelope: Any, part: bytes) -> None:
    try:
        parsed = envelope.FromString(part)
    except ProtobufDecodeError:
        return
    try:
        endpoint, id, _ = FRAMING.unpack_request(netstring(part) + netstring(b""))
    except DecodeError:  # groups, and numbers longer than a field's can be
        return
    assert (endpoint, id) == (parsed.service_method, parsed.seq)


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_a_decode_error(message: bytes) -> None:
    for unpack in (FRAMING.unpack_request, FRAMING.unpack_reply):
        try:
            unpack(message)
        except DecodeError:
            pass
