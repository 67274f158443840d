"""Bytes in, messages out: whole and byte by byte alike."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micro_core import Headers
from micro_transport_http.http1.parser import RequestParser, ResponseParser
from micro_transport_http.http1.refusal import Refusal

START = b"POST / HTTP/1.1\r\nHost: 10.0.0.5:8080\r\n"


def parse(kind: Any, pieces: list[bytes], headers: int = 1000, body: int = 1000) -> tuple[list[Any], tuple[int, str]]:
    """Return the messages, and status and sentence of the refusal that ended them, if any."""
    messages: list[Any] = []

    def received(headers: Headers, body: bytes) -> None:
        messages.append((headers, body))

    parser = kind(received, headers=headers, body=body)
    try:
        for piece in pieces:
            parser.feed(piece)
    except Refusal as refusal:
        return messages, (refusal.status, refusal.sentence)
    return messages, (0, "")


def whole_and_bytewise(kind: Any, text: bytes, **limits: int) -> tuple[list[Any], tuple[int, str]]:
    whole = parse(kind, [text], **limits)
    bytewise = parse(kind, [text[at : at + 1] for at in range(len(text))], **limits)
    assert whole == bytewise
    return whole


def requests(text: bytes, **limits: int) -> list[Any]:
    messages, (status, sentence) = whole_and_bytewise(RequestParser, text, **limits)
    assert (status, sentence) == (0, "")
    return messages


def refusal(text: bytes, **limits: int) -> int:
    messages, (status, _) = whole_and_bytewise(RequestParser, text, **limits)
    assert messages == []
    return status


GO_UNARY = b"""POST / HTTP/1.1
Host: 192.168.1.10:40123
User-Agent: Go-http-client/1.1
Content-Length: 16
Accept: application/json
Content-Type: application/json
Micro-Endpoint: Greeter.Hello
Micro-From-Service: go.micro.srv.caller
Micro-Id: 0
Micro-Method: Greeter.Hello
Micro-Service: greeter
Timeout: 5000000000

{"name":"John"}
""".replace(b"\n", b"\r\n").replace(b'"}\r\n', b'"}\n')


def test_gos_unary_request_means_what_the_wire_document_says() -> None:
    (message,) = requests(GO_UNARY)

    assert message == (
        {
            b"User-Agent": b"Go-http-client/1.1",
            b"Accept": b"application/json",
            b"Content-Type": b"application/json",
            b"Micro-Endpoint": b"Greeter.Hello",
            b"Micro-From-Service": b"go.micro.srv.caller",
            b"Micro-Id": b"0",
            b"Micro-Method": b"Greeter.Hello",
            b"Micro-Service": b"greeter",
            b"Timeout": b"5000000000",
        },
        b'{"name":"John"}\n',
    )


GO_ERROR = b"""HTTP/1.1 200 OK
Content-Type: application/json
Micro-Error: {"id":"go.micro.srv.greeter","code":404,"detail":"no such user","status":"Not Found"}
Micro-Id: 0
X-Micro-Error: {"id":"go.micro.srv.greeter","code":404,"detail":"no such user","status":"Not Found"}
Content-Length: 0

""".replace(b"\n", b"\r\n")


def test_gos_error_answer_means_what_the_wire_document_says() -> None:
    (message,), _ = whole_and_bytewise(ResponseParser, GO_ERROR)

    assert message[1] == b""
    assert message[0][b"Micro-Error"].startswith(b'{"id":"go.micro.srv.greeter","code":404')


GO_END_OF_STREAM = b"""POST / HTTP/1.1
Host: 192.168.1.10:40123
User-Agent: Go-http-client/1.1
Transfer-Encoding: chunked
Accept: application/json
Content-Type: application/json
Micro-Endpoint: Greeter.Stream
Micro-Error: EOS
Micro-Id: 7
Micro-Method: Greeter.Stream
Micro-Service: greeter
Micro-Stream: 7
Timeout: 5000000000

0

""".replace(b"\n", b"\r\n")


def test_gos_end_of_stream_with_its_empty_chunked_body_is_read() -> None:
    first, second = requests(GO_END_OF_STREAM * 2)

    assert first == second
    assert first[0][b"Micro-Error"] == b"EOS"
    assert first[1] == b""


def test_header_names_take_their_canonical_form_and_values_lose_blanks_around_them() -> None:
    ((headers, _),) = requests(START + b"micro-ID: 7\r\nX-FOO-1a:  b \t \r\nEmpty:\r\n\r\n")

    assert headers == {b"Micro-Id": b"7", b"X-Foo-1a": b"b", b"Empty": b""}


def test_of_repeated_headers_the_first_counts() -> None:
    ((headers, _),) = requests(START + b"A: 1\r\na: 2\r\n\r\n")

    assert headers == {b"A": b"1"}


def test_bytes_beyond_ascii_pass_in_values() -> None:
    ((headers, _),) = requests(START + b"A: \xc3\xa9\xff\r\n\r\n")

    assert headers == {b"A": b"\xc3\xa9\xff"}


def test_chunked_bodies_are_joined_and_their_trailers_dropped() -> None:
    text = START + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n02;a=b\r\nde\r\n0\r\nHost: z\r\nEvil: 1\r\n\r\n"

    assert requests(text) == [({}, b"abcde")]


@pytest.mark.parametrize(
    "text",
    [
        START + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        START + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        START + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        START + b"Content-Length: 3, 3\r\n\r\nabc",
        START + b"Content-Length: +3\r\n\r\nabc",
        START + b"Content-Length: -3\r\n\r\nabc",
        START + b"Content-Length: 1 2\r\n\r\nabc",
        START + b"Content-Length: 0x3\r\n\r\nabc",
        START + b"Content-Length: 1_0\r\n\r\n0123456789",
        START + b"Content-Length:\r\n\r\nabc",
        START + b"Content-Length: 99999999999999999999999999\r\n\r\nabc",
        b"POST / HTTP/1.1\nHost: x\n\n",
        START + b"A: b\n\r\n",
        START + b"A: b\rc\r\n\r\n",
        START + b"A: b\x00c\r\n\r\n",
        START + b"A: b\x01c\r\n\r\n",
        START + b"A: b\r\n c\r\n\r\n",
        START + b"A : b\r\n\r\n",
        START + b"A(: b\r\n\r\n",
        START + b": b\r\n\r\n",
        START + b"Abc\r\n\r\n",
        START + b":path: /x\r\n\r\n",
        START + b"Host: other\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET /\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        START + b"Transfer-Encoding: gzip\r\n\r\n",
        START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n 3\r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n3;\nabc\r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_broken_framing_is_refused(text: bytes) -> None:
    assert refusal(text) == 400


@pytest.mark.parametrize(
    "text",
    [
        START + b"Content-Length: 1001\r\n\r\n",
        START + b"Content-Length: 9223372036854775809\r\n\r\nabc",
        START + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
        START + b"Transfer-Encoding: chunked\r\n\r\n" + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501,
    ],
)
def test_a_body_above_the_limit_is_refused(text: bytes) -> None:
    assert refusal(text) == 413


@pytest.mark.parametrize(
    "text",
    [
        START + b"A: " + b"x" * 1000 + b"\r\n\r\n",
        START + b"".join(b"A%d: x\r\n" % number for number in range(200)) + b"\r\n",
        b"POST /" + b"x" * 1000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        START + b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 1000 + b"\r\n\r\n",
    ],
)
def test_headers_above_the_limit_are_refused(text: bytes) -> None:
    assert refusal(text) == 431


def test_what_never_ends_is_refused_before_it_ends() -> None:
    blanks = parse(RequestParser, [START, b"A:", *[b" " * 1000] * 100])
    extensions = parse(RequestParser, [START, b"Transfer-Encoding: chunked\r\n\r\n3;a=", *[b"x" * 1000] * 100])

    assert blanks[1][0] == 431
    assert extensions[1][0] == 400


def test_a_strangers_upgrade_keeps_its_body() -> None:
    text = START + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\nA: b\r\n\r\nabc" + START + b"\r\n"

    assert requests(text) == [({b"A": b"b"}, b"abc"), ({}, b"")]


def test_a_strangers_upgrade_keeps_its_chunked_body() -> None:
    text = START + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    assert requests(text) == [({}, b"abc")]


def test_a_strangers_upgrade_is_limited_too() -> None:
    assert refusal(START + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 1001\r\n\r\n") == 413


def test_nothing_after_the_last_message_is_looked_at() -> None:
    text = START + b"Connection: close\r\n\r\n" + START + b"garbage\x00"

    assert requests(text) == [({}, b"")]


def test_interim_responses_are_left_out() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
    text = interim + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"

    messages, _ = whole_and_bytewise(ResponseParser, text)

    assert messages == [({}, b"a")]


def test_a_response_without_length_ends_with_the_connection() -> None:
    messages: list[Any] = []
    parser = ResponseParser(lambda headers, body: messages.append(body), headers=1000, body=1000)

    parser.feed(b"HTTP/1.1 200 OK\r\n\r\nab")
    parser.feed(b"c")
    parser.end()

    assert messages == [b"abc"]


SEEDS = [GO_UNARY, GO_END_OF_STREAM, START + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    text = bytearray(draw(st.sampled_from(SEEDS)) * draw(st.integers(1, 2)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text) - 1))
        text[at : at + draw(st.integers(0, 2))] = draw(
            st.sampled_from([b"\r", b"\n", b"\x00", b" ", b":", b"9", b"\xff", b""])
        )
    return bytes(text)


@settings(max_examples=300)
@given(text=st.binary(max_size=200) | mutated(), cuts=st.lists(st.integers(0, 600), max_size=6))
def test_random_and_mutated_requests_give_the_same_however_they_are_cut(text: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[low:high] for low, high in itertools.pairwise(edges)]

    assert parse(RequestParser, pieces) == whole_and_bytewise(RequestParser, text)


@settings(max_examples=200)
@given(text=st.binary(max_size=200) | mutated().map(lambda text: text.replace(b"POST / HTTP/1.1", b"HTTP/1.1 200 OK")))
def test_random_and_mutated_responses_raise_nothing_but_refusals(text: bytes) -> None:
    whole_and_bytewise(ResponseParser, text)


ODD_LINES = [
    b"",
    b"micro-id: 9\r\n",
    b"timeout: 9\r\n",
    b"Content-Length: 3\r\n",
    b"content-length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"Host: elsewhere\r\n",
    b"X-Trace: Timeout: 5\r\n",
    b" folded\r\n",
    b"accept: x\r\n",
]
STARTS = {
    RequestParser: [
        START,
        b"POST / HTTP/1.1\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.0\r\nHost: a\r\n",
    ],
    ResponseParser: [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 408 Late\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"HTTP/1.0 200 OK\r\n",
    ],
}


@st.composite
def usual(draw: st.DrawFn, kind: Any) -> list[bytes]:
    """Return messages as our writer writes them, with here and there one line more, or some other byte."""
    start = draw(st.sampled_from(STARTS[kind][:1] * 6 + STARTS[kind]))
    lines = draw(st.sampled_from([b"Accept: a\r\n", b"Accept: b\r\nMicro-Topic: t\r\n"])) + draw(
        st.sampled_from(ODD_LINES)
    )
    messages = []
    for _ in range(draw(st.integers(2, 5))):
        timeout = draw(
            st.sampled_from([b"", b"Timeout: 5\r\n", b"Timeout: 70\r\n", b"Timeout: x\r\n", b"Timeout: \r\n"])
        )
        length = draw(st.sampled_from([b"2", b"2", b"02", b"0", b"1", b"+2", b"99999"]))
        id = draw(st.sampled_from([b"1", b"22", b"", b"x"]))
        text = b"%bMicro-Id: %b\r\n%b%bContent-Length: %b\r\n\r\nhi" % (start, id, lines, timeout, length)
        if draw(st.integers(0, 5)) == 0:
            at = draw(st.integers(0, len(text) - 1))
            text = text[:at] + draw(st.sampled_from([b"\r", b"\n", b" ", b"9", b":"])) + text[at + 1 :]
        messages.append(text)
    return messages
