"""Messages to bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import EncodeError, Head
from micro_transport_http.http1.parser import RequestParser
from micro_transport_http.http1.writer import ANSWER, message, request_line, safe_message

START = request_line("192.168.1.10:40123")


def test_a_call_is_written_as_go_reads_it() -> None:
    head = Head({b"Content-Type": b"application/json", b"Micro-Endpoint": b"Greeter.Hello"})

    assert message(START, head, b"7", {b"Timeout": b"5000000000"}, b"{}") == (
        b"POST / HTTP/1.1\r\nHost: 192.168.1.10:40123\r\nMicro-Id: 7\r\nContent-Type: application/json\r\n"
        b"Micro-Endpoint: Greeter.Hello\r\nTimeout: 5000000000\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_an_answer_is_the_sufficient_one_of_the_wire_document() -> None:
    head = Head({b"Content-Type": b"application/json"})

    assert message(ANSWER, head, b"0", {}, b'{"msg":"Hello John"}') == (
        b"HTTP/1.1 200 OK\r\nMicro-Id: 0\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
        b'{"msg":"Hello John"}'
    )


def test_an_empty_body_has_a_length() -> None:
    assert message(ANSWER, Head({}), b"", {}, b"") == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_a_head_is_encoded_once() -> None:
    head = Head({b"A": b"1"})

    message(ANSWER, head, b"1", {}, b"")
    encoded = head.encoded
    message(ANSWER, head, b"2", {b"A": b"2"}, b"")

    assert head.encoded is encoded


def test_headers_overlay_the_head() -> None:
    data = message(ANSWER, Head({b"A": b"1", b"B": b"1"}), b"", {b"A": b"2"}, b"")

    assert b"A: 2\r\nB: 1\r\n" in data
    assert b"A: 1" not in data


def test_framing_headers_of_the_application_are_not_written() -> None:
    forged = {b"Content-Length": b"5", b"Transfer-Encoding": b"chunked", b"Connection": b"close", b"Micro-Id": b"9"}

    assert message(ANSWER, Head(forged), b"1", forged, b"") == (
        b"HTTP/1.1 200 OK\r\nMicro-Id: 1\r\nContent-Length: 0\r\n\r\n"
    )


@pytest.mark.parametrize("value", [b"a\r\nEvil: 1", b"a\rb", b"a\nb", b"a\x00b", b"\x7f", b"\r\n\r\nGET /"])
def test_control_characters_in_values_are_refused(value: bytes) -> None:
    with pytest.raises(EncodeError, match="header Bad has a control character"):
        message(ANSWER, Head({}), b"1", {b"Good": b"1", b"Bad": value}, b"")
    with pytest.raises(EncodeError, match="header Bad has a control character"):
        message(ANSWER, Head({b"Bad": value}), b"1", {}, b"")


@pytest.mark.parametrize("name", [b"", b"a b", b"a:", b"a\r\nb", b":path", b"\xc3\xa9"])
def test_names_that_are_no_tokens_are_refused(name: bytes) -> None:
    with pytest.raises(EncodeError, match="no header name"):
        message(ANSWER, Head({}), b"1", {name: b"1"}, b"")


def test_an_answer_is_mended_rather_than_lost(caplog: pytest.LogCaptureFixture) -> None:
    data = safe_message(ANSWER, Head({b"A": b"1"}), b"7", {b"B": b"x\r\ny", b"C D": b"1"}, b"!")

    assert data == b"HTTP/1.1 200 OK\r\nMicro-Id: 7\r\nA: 1\r\nB: x  y\r\nContent-Length: 1\r\n\r\n!"
    assert "mended" in caplog.text


VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs"])).map(lambda text: text.strip().encode())
NAMES = st.from_regex(r"X(-[A-Z][a-z0-9]{0,5}){1,3}", fullmatch=True).map(str.encode)


@given(headers=st.dictionaries(NAMES, VALUES, max_size=8), body=st.binary(max_size=100))
def test_what_is_written_reads_back_the_same(headers: dict[bytes, bytes], body: bytes) -> None:
    messages = []
    parser = RequestParser(lambda headers, body: messages.append((headers, body)), headers=65536, body=1000)

    parser.feed(message(START, Head(headers), b"7", {}, body))

    assert messages == [({b"Micro-Id": b"7", **headers}, body)]
