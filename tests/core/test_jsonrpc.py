"""The json-rpc envelope of docs/wire.md §3.5 in both directions, and hostile bytes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import DecodeError
from micro_core.builtin.json.envelope import JsonRpcFraming

FRAMING = JsonRpcFraming()

REQUEST = b'{"method":"Greeter.Hello","params":[{"name":"John"}],"id":"0"}\n'
REPLY = b'{"id":"0","result":{"msg":"Hello John"},"error":null}\n'
ERROR = b'{"id":"","result":null,"error":"text"}\n'


def test_a_request_is_written_and_read() -> None:
    assert FRAMING.pack_request("Greeter.Hello", 0, b'{"name":"John"}') == REQUEST
    assert FRAMING.unpack_request(REQUEST) == ("Greeter.Hello", 0, b'{"name":"John"}')


def test_a_reply_is_written_and_read() -> None:
    assert FRAMING.pack_reply("Greeter.Hello", 0, b'{"msg":"Hello John"}', "") == REPLY
    assert FRAMING.unpack_reply(REPLY) == (0, b'{"msg":"Hello John"}', "")


def test_an_error_is_written_and_read() -> None:
    assert FRAMING.pack_reply("Greeter.Hello", 7, b"{}", "text") == ERROR
    assert FRAMING.unpack_reply(ERROR) == (0, b"", "text")


def test_no_body_travels_as_null() -> None:
    assert FRAMING.unpack_request(FRAMING.pack_request("A.B", 1, b"")) == ("A.B", 1, b"null")
    assert FRAMING.unpack_reply(FRAMING.pack_reply("A.B", 1, b"", "")) == (1, b"null", "")


@pytest.mark.parametrize("params", ["[]", "null"])
def test_a_request_without_argument_has_no_body(params: str) -> None:
    assert FRAMING.unpack_request(b'{"method":"A.B","params":%s,"id":"1"}' % params.encode()) == ("A.B", 1, b"")


def test_a_number_as_id_is_read() -> None:
    assert FRAMING.unpack_request(b'{"id":7,"method":"A.B"}') == ("A.B", 7, b"")
    assert FRAMING.unpack_reply(b'{"id":7,"result":1}') == (7, b"1", "")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"[]",
        b'{"id":"x"}',
        b'{"id":"-1"}',
        b'{"id":"1.0"}',
        '{"id":"\u0661"}'.encode(),
        b'{"id":"18446744073709551616"}',
        b'{"id":' + b"9" * 5000 + b"}",
        b'{"id":"0","params":{},"error":{}}',
        b'{"id":"0","params":[' + b"[" * 100_000 + b'],"result":' + b"[" * 100_000,
        b'{"id":"0","params":["\xff"],"method":"\xff","error":"\xff"}',
        REQUEST[:-3],
        REQUEST + b"{}",
    ],
    ids=lambda message: repr(message[:30]),
)
def test_a_malformed_message_is_a_decode_error(message: bytes) -> None:
    with pytest.raises(DecodeError):
        FRAMING.unpack_request(message)
    with pytest.raises(DecodeError):
        FRAMING.unpack_reply(message)


@given(st.text(), st.integers(0, 2**63 - 1), st.none() | st.integers() | st.text())
def test_requests_round_trip(endpoint: str, id: int, value: object) -> None:
    body = json.dumps(value).encode()
    assert FRAMING.unpack_request(FRAMING.pack_request(endpoint, id, body)) == (endpoint, id, body)


@given(st.integers(0, 2**63 - 1), st.text())
def test_replies_round_trip(id: int, error: str) -> None:
    expected = (0, b"", error) if error else (id, b"1", "")
    assert FRAMING.unpack_reply(FRAMING.pack_reply("A.B", id, b"1", error)) == expected


def test_an_error_text_with_a_lone_surrogate_can_be_sent() -> None:
    assert FRAMING.unpack_reply(FRAMING.pack_reply("A.B", 1, b"", "a\ud800")) == (0, b"", "a?")


LOOKALIKES = st.fixed_dictionaries(
    {},
    optional={
        key: st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers())
        for key in ("id", "method", "params", "result", "error")
    },
)


@given(st.binary(max_size=200) | LOOKALIKES.map(lambda document: json.dumps(document).encode()))
def test_random_bytes_are_a_message_or_a_decode_error(message: bytes) -> None:
    for unpack in (FRAMING.unpack_request, FRAMING.unpack_reply):
        try:
            unpack(message)
        except DecodeError:
            pass
