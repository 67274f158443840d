"""The door of the rpc port: what strangers, web pages and Go Micro programs are told."""

from __future__ import annotations

import json
import math
import socket
import struct
import subprocess
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute

from micro_core import ConfigError, ConnectionLost, Executed, Head, Limits, Request, Tls
from micro_transport_http import HttpTransport
from micro_transport_http.http1.parser import RequestParser

pytestmark = pytest.mark.anyio

PAGE = (b"Origin: https://evil.example", b"Content-Type: text/plain")
CALL = (b"Micro-Endpoint: Greeter.Hello", b"Content-Type: application/json")
LAST = b"Content-Length: 0\r\nConnection: close"
GO = (b"User-Agent: Go-http-client/1.1",)


def request(line: bytes, *headers: bytes, host: bytes = b"10.0.0.5:8080") -> bytes:
    return b"\r\n".join([line + b" / HTTP/1.1", b"Host: " + host, *headers, b"", b""])


async def answer_to(transport: Any, dial: Any, text: bytes, limits: Limits | None = None) -> tuple[bytes, int]:
    """Return what a listener answers, and how many requests it has taken for calls."""
    taken: list[Request] = []

    def receive(request: Request) -> None:
        taken.append(request)
        request.respond(Head({}), {}, b"")

    async with transport, transport.listen("127.0.0.1:0", receive, limits or Limits()) as listener:
        async with dial(listener.address) as raw:
            with anyio.fail_after(10):
                await raw.send(text)
                return await raw.rest(), len(taken)


@pytest.mark.parametrize(
    ("method", "status"),
    [
        (b"GET", b"404 Not Found"),
        (b"HEAD", b"404 Not Found"),
        (b"PUT", b"405 Method Not Allowed"),
        (b"DELETE", b"405 Method Not Allowed"),
        (b"PATCH", b"405 Method Not Allowed"),
        (b"TRACE", b"405 Method Not Allowed"),
        (b"OPTIONS", b"405 Method Not Allowed"),
    ],
)
@pytest.mark.parametrize("headers", [(), CALL])
async def test_only_a_post_is_a_call(
    open_transport: Any, dial: Any, method: bytes, status: bytes, headers: tuple[bytes, ...]
) -> None:
    answer, taken = await answer_to(open_transport(), dial, request(method, *headers))

    assert taken == 0
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert (b"\r\nAllow: POST\r\n" in answer) is status.startswith(b"405")
    assert answer.endswith(b"\r\n\r\n") is (method == b"HEAD")


@pytest.mark.parametrize("headers", [PAGE, (*PAGE, *CALL)])
async def test_web_pages_may_not_call(open_transport: Any, dial: Any, headers: tuple[bytes, ...]) -> None:
    answer, taken = await answer_to(open_transport(), dial, request(b"POST", *headers, LAST))

    assert taken == 0
    assert b"403" in answer
    assert b"https://evil.example" in answer


@pytest.mark.parametrize("origins", [["https://Evil.example"], ["*"]])
async def test_web_pages_that_are_named_may_call(open_transport: Any, dial: Any, origins: list[str]) -> None:
    _, taken = await answer_to(open_transport(origins=origins), dial, request(b"POST", *PAGE, LAST))

    assert taken == 1


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        (b"greeter.example", 1),
        (b"Greeter.example:8080", 1),
        (b"[fd00::1]:80", 1),
        (b"evil.example", 0),
        (b"greeter.example.evil.example:8080", 0),
    ],
)
async def test_a_listener_that_knows_its_names_answers_to_no_other(
    open_transport: Any, dial: Any, host: bytes, taken: int
) -> None:
    transport = open_transport(hosts=["greeter.example", "[FD00::1]"])

    answer = await answer_to(transport, dial, request(b"POST", LAST, host=host))

    assert answer[1] == taken
    assert (b"421 Misdirected Request" in answer[0]) is not taken


@pytest.mark.parametrize("options", [{"origins": ["evil.example"]}, {"origins": ["https://a/b"]}, {"hosts": ["a:80"]}])
def test_a_door_that_is_written_wrongly_is_told(options: dict[str, list[str]]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        HttpTransport(**options)  # type: ignore[arg-type]


def error_in(answer: bytes) -> dict[str, Any]:
    lines = dict(line.split(b": ", 1) for line in answer.split(b"\r\n") if b": " in line)
    error: dict[str, Any] = json.loads(lines[b"Micro-Error"])
    return error


@pytest.mark.parametrize("who", [CALL, GO])
@pytest.mark.parametrize(
    ("rest", "code"),
    [
        ((b"Content-Length: 201",), 413),
        ((b"Transfer-Encoding: chunked\r\n\r\nc9\r\n" + b"x" * 201 + b"\r\n0\r\n\r\n",), 413),
        ((b"Zz: " + b"x" * 1000,), 431),
        ((b"Host: another",), 400),
    ],
)
async def test_who_calls_is_told_by_a_micro_error(
    open_transport: Any, dial: Any, who: tuple[bytes, ...], rest: tuple[bytes, ...], code: int
) -> None:
    """Go Micro v5 takes every status but 200 for success with an empty message."""
    limits = Limits(headers=1000, body=200)

    answer, taken = await answer_to(open_transport(), dial, request(b"POST", *who, *rest), limits)

    assert taken == 0
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert error_in(answer)["code"] == code
    assert error_in(answer)["executed"] == "no"


async def test_who_does_not_call_is_told_by_a_status(open_transport: Any, dial: Any) -> None:
    answer, _ = await answer_to(
        open_transport(), dial, request(b"POST", b"User-Agent: curl/8", b"Content-Length: 201"), Limits(body=200)
    )

    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@pytest.mark.parametrize("connection", [b"close, upgrade", b"upgrade, close", b"Upgrade,close"])
@pytest.mark.parametrize("body", [b"", b"abc"])
@pytest.mark.parametrize("bytewise", [False, True])
def test_nothing_is_read_after_a_last_message_that_asks_for_an_upgrade(
    upgrade: bytes, connection: bytes, body: bytes, bytewise: bool
) -> None:
    bodies: list[bytes] = []
    parser = RequestParser(lambda headers, body: bodies.append(body), headers=1000, body=1000)
    asking = (b"Connection: " + connection, b"Upgrade: " + upgrade, b"Content-Length: %d" % len(body))
    text = request(b"POST", *asking) + body + request(b"POST", b"Content-Length: 7") + b"smuggle"

    for piece in [text[at : at + 1] for at in range(len(text))] if bytewise else [text]:
        parser.feed(piece)

    assert bodies == [body]
    assert parser.ended


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_nothing_is_read_after_the_last_message(version: bytes) -> None:
    bodies: list[bytes] = []
    parser = RequestParser(lambda headers, body: bodies.append(body), headers=1000, body=1000)
    connection = b"keep-alive" if version == b"1.0" else b"close"
    first = b"POST / HTTP/%b\r\nHost: x\r\nConnection: %b\r\nContent-Length: 1\r\n\r\na" % (version, connection)

    parser.feed(first + request(b"POST", b"Content-Length: 7") + b"smuggle")

    assert bodies == [b"a"]


async def test_a_reply_without_a_length_that_is_cut_is_no_reply(
    open_transport: Any, node: Any, head: Any, peer: Any, go_metadata: Any
) -> None:
    """Where the connection ends by a reset, nobody knows how much of the reply came."""

    async def half_a_reply(raw: Any) -> None:
        await raw.message()
        await raw.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"greeting": "trunc"}')
        sock = raw.stream.extra(SocketAttribute.raw_socket)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await anyio.sleep(0.1)  # so that the bytes are read before the reset

    async with open_transport() as transport, peer(half_a_reply) as address:
        with pytest.raises(ConnectionLost) as caught, anyio.fail_after(10):
            await transport.connect(node(address, go_metadata)).call(head, 1, {}, b"{}", math.inf)

    assert caught.value.executed is Executed.MAYBE


async def test_a_reply_without_a_length_that_ends_is_whole(
    open_transport: Any, node: Any, head: Any, peer: Any, go_metadata: Any
) -> None:
    async def whole(raw: Any) -> None:
        await raw.message()
        await raw.send(b"HTTP/1.1 200 OK\r\n\r\nwhole")

    async with open_transport() as transport, peer(whole) as address:
        with anyio.fail_after(10):
            reply = await transport.connect(node(address, go_metadata)).call(head, 1, {}, b"{}", math.inf)

    assert reply.body == b"whole"


async def test_who_calls_a_tls_port_in_clear_text_is_told_by_a_micro_error(
    open_transport: Any, dial: Any, authority: Any
) -> None:
    cert, key = authority.issue("127.0.0.1")
    for headers, start in ((CALL, b"HTTP/1.1 200 OK\r\n"), (GO, b"HTTP/1.1 200 OK\r\n"), ((), b"HTTP/1.1 400 ")):
        transport = open_transport(tls=Tls(cert=cert, key=key))
        answer, taken = await answer_to(transport, dial, request(b"POST", *headers, LAST))

        assert taken == 0
        assert answer.startswith(start)
        assert b"this port speaks TLS" in answer


async def test_the_door_stands_before_http2_too(open_transport: Any, authority: Any) -> None:
    cert, key = authority.issue("127.0.0.1")
    taken: list[Request] = []

    async def status(*arguments: str) -> bytes:
        shown = ("--silent", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", "--max-time", "10")
        command = ["curl", *shown, "--noproxy", "*", "--cacert", authority.file, "--http2", *arguments, url]
        return (await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, check=True))).stdout

    def receive(request: Request) -> None:
        taken.append(request)
        request.respond(Head({}), {}, b"")

    async with open_transport(tls=Tls(cert=cert, key=key), hosts=["127.0.0.1"]) as transport:
        async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
            url = f"https://{listener.address}/"
            try:
                get, put = await status(), await status("-X", "PUT")
            except FileNotFoundError:
                pytest.skip("curl is not installed")
            page = await status("-X", "POST", "-H", "Origin: https://evil.example")
            other = await status("-X", "POST", "-H", "Host: evil.example")
            assert not taken
            call = await status("-X", "POST")

    assert [get, put, page, other, call] == [b"2 404", b"2 405", b"2 403", b"2 421", b"2 200"]
    assert len(taken) == 1
