"""What an HTTP/2 peer may not do, frame by frame (the situations that h2spec describes): each has its end."""

from __future__ import annotations

import ssl
import struct
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSStream
from h2.errors import ErrorCodes as Code
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from micro_core import Head, Limits, Node, Tls
from micro_transport_http import HttpTransport

pytestmark = pytest.mark.anyio

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REQUEST = [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "x"), ("micro-endpoint", "A.B")]
SETTINGS = SettingsFrame(0).serialize()


def block(fields: list[tuple[str, str]]) -> bytes:
    encoded: bytes = Encoder().encode(fields)
    return encoded


def request(stream: int = 1, fields: Any = REQUEST, flags: Any = ("END_HEADERS", "END_STREAM")) -> bytes:
    return HeadersFrame(stream, block(list(fields)), flags=list(flags)).serialize()


OPEN = ("END_HEADERS",)
LAST = DataFrame(1, b"xxx", flags=["END_STREAM"]).serialize()


def without(name: str) -> list[tuple[str, str]]:
    return [field for field in REQUEST if field[0] != name]


def raw(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(number: int, value: int) -> bytes:
    return raw(4, 0, 0, struct.pack(">HI", number, value))


# What is sent after the preface and SETTINGS; codes that may end the connection (GOAWAY) or the stream (RST_STREAM).
WRONG: dict[str, tuple[bytes, set[Code]]] = {
    # Frame size and form (RFC 9113 §4)
    "a frame beyond the largest size": (raw(0, 0, 1, b"x" * 65_537), {Code.FRAME_SIZE_ERROR}),
    "HEADERS beyond the largest size": (raw(1, 5, 1, b"x" * 65_537), {Code.FRAME_SIZE_ERROR}),
    "PING of 7 bytes": (raw(6, 0, 0, b"x" * 7), {Code.FRAME_SIZE_ERROR}),
    "PING of 9 bytes": (raw(6, 0, 0, b"x" * 9), {Code.FRAME_SIZE_ERROR}),
    "RST_STREAM of 3 bytes": (request(flags=OPEN) + raw(3, 0, 1, b"xxx"), {Code.FRAME_SIZE_ERROR}),
    "RST_STREAM of 5 bytes": (request(flags=OPEN) + raw(3, 0, 1, b"x" * 5), {Code.FRAME_SIZE_ERROR}),
    "SETTINGS of 5 bytes": (raw(4, 0, 0, b"x" * 5), {Code.FRAME_SIZE_ERROR}),
    "WINDOW_UPDATE of 3 bytes": (raw(8, 0, 0, b"xxx"), {Code.FRAME_SIZE_ERROR}),
    "WINDOW_UPDATE of 5 bytes": (raw(8, 0, 0, b"x" * 5), {Code.FRAME_SIZE_ERROR}),
    "PRIORITY of 4 bytes": (raw(2, 0, 1, b"xxxx"), {Code.FRAME_SIZE_ERROR}),
    "GOAWAY of 7 bytes": (raw(7, 0, 0, b"x" * 7), {Code.FRAME_SIZE_ERROR}),
    "HEADERS that end before their priority": (raw(1, 0x24, 1, b"xx"), {Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR}),
    # Header compression (§4.3)
    "a block that is no HPACK": (raw(1, 5, 1, b"\xff" * 7), {Code.COMPRESSION_ERROR, Code.PROTOCOL_ERROR}),
    "an index that is not in the table": (raw(1, 5, 1, b"\xfe"), {Code.COMPRESSION_ERROR, Code.PROTOCOL_ERROR}),
    "a table size beyond the setting": (
        raw(1, 5, 1, b"\x3f\xe1\xff\x03" + block(REQUEST)), {Code.COMPRESSION_ERROR, Code.PROTOCOL_ERROR},
    ),
    # States (§5.1)
    "DATA on an idle stream": (DataFrame(1, b"x").serialize(), {Code.PROTOCOL_ERROR}),
    "RST_STREAM on an idle stream": (RstStreamFrame(1).serialize(), {Code.PROTOCOL_ERROR}),
    "WINDOW_UPDATE on an idle stream": (WindowUpdateFrame(1, 1).serialize(), {Code.PROTOCOL_ERROR}),
    "CONTINUATION on an idle stream": (ContinuationFrame(1, b"").serialize(), {Code.PROTOCOL_ERROR}),
    "DATA after END_STREAM": (request() + DataFrame(1, b"x").serialize(), {Code.STREAM_CLOSED}),
    "HEADERS after END_STREAM": (request() + request(), {Code.STREAM_CLOSED, Code.PROTOCOL_ERROR}),
    "CONTINUATION after END_STREAM": (
        request() + ContinuationFrame(1, b"").serialize(), {Code.STREAM_CLOSED, Code.PROTOCOL_ERROR},
    ),
    "DATA after RST_STREAM": (
        request(flags=OPEN) + RstStreamFrame(1, 8).serialize() + DataFrame(1, b"x").serialize(), {Code.STREAM_CLOSED},
    ),
    "HEADERS after RST_STREAM": (
        request(flags=OPEN) + RstStreamFrame(1, 8).serialize() + request(), {Code.STREAM_CLOSED, Code.PROTOCOL_ERROR},
    ),
    # Stream identifiers (§5.1.1)
    "an even stream": (request(2), {Code.PROTOCOL_ERROR}),
    "a stream below the last": (request(5) + request(3), {Code.PROTOCOL_ERROR, Code.STREAM_CLOSED}),
    "HEADERS on stream 0": (raw(1, 5, 0, block(REQUEST)), {Code.PROTOCOL_ERROR}),
    "DATA on stream 0": (raw(0, 0, 0, b"x"), {Code.PROTOCOL_ERROR}),
    "PRIORITY on stream 0": (raw(2, 0, 0, b"\0\0\0\1\1"), {Code.PROTOCOL_ERROR}),
    "RST_STREAM on stream 0": (raw(3, 0, 0, b"\0\0\0\0"), {Code.PROTOCOL_ERROR}),
    "CONTINUATION on stream 0": (raw(9, 4, 0, b""), {Code.PROTOCOL_ERROR}),
    "SETTINGS on a stream": (raw(4, 0, 1, b""), {Code.PROTOCOL_ERROR}),
    "PING on a stream": (raw(6, 0, 1, b"x" * 8), {Code.PROTOCOL_ERROR}),
    "GOAWAY on a stream": (raw(7, 0, 1, b"x" * 8), {Code.PROTOCOL_ERROR}),
    "PUSH_PROMISE of a client": (
        request(flags=OPEN) + PushPromiseFrame(1, 2, block(REQUEST), flags=["END_HEADERS"]).serialize(),
        {Code.PROTOCOL_ERROR},
    ),
    # Padding (§6.1, §6.2)
    "DATA with more padding than payload": (request(flags=OPEN) + raw(0, 8, 1, b"\x09x"), {Code.PROTOCOL_ERROR}),
    "HEADERS with more padding than payload": (raw(1, 0xD, 1, b"\xff" + block(REQUEST)), {Code.PROTOCOL_ERROR}),
    # Blocks of headers (§6.2, §6.10)
    "PING within a block": (request(flags=()) + PingFrame(0, b"x" * 8).serialize(), {Code.PROTOCOL_ERROR}),
    "DATA within a block": (request(flags=()) + DataFrame(1, b"x").serialize(), {Code.PROTOCOL_ERROR}),
    "another stream's HEADERS within a block": (request(flags=()) + request(3), {Code.PROTOCOL_ERROR}),
    "another stream's CONTINUATION": (
        request(flags=()) + ContinuationFrame(3, b"", flags=["END_HEADERS"]).serialize(), {Code.PROTOCOL_ERROR},
    ),
    "65 CONTINUATION frames": (
        request(flags=()) + 65 * ContinuationFrame(1, b"").serialize(), {Code.PROTOCOL_ERROR, Code.ENHANCE_YOUR_CALM},
    ),
    # SETTINGS (§6.5)
    "SETTINGS ACK with a payload": (raw(4, 1, 0, b"x" * 6), {Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR}),
    "ENABLE_PUSH of 2": (settings(2, 2), {Code.PROTOCOL_ERROR}),
    "INITIAL_WINDOW_SIZE beyond 2³¹-1": (settings(4, 2**31), {Code.FLOW_CONTROL_ERROR}),
    "MAX_FRAME_SIZE below 2¹⁴": (settings(5, 16_383), {Code.PROTOCOL_ERROR}),
    "MAX_FRAME_SIZE beyond 2²⁴-1": (settings(5, 2**24), {Code.PROTOCOL_ERROR}),
    # Windows (§6.9)
    "WINDOW_UPDATE of 0 on the connection": (raw(8, 0, 0, b"\0\0\0\0"), {Code.PROTOCOL_ERROR}),
    "WINDOW_UPDATE of 0 on a stream": (request(flags=OPEN) + raw(8, 0, 1, b"\0\0\0\0"), {Code.PROTOCOL_ERROR}),
    "a connection's window beyond 2³¹-1": (
        2 * WindowUpdateFrame(0, 2**31 - 1).serialize(), {Code.FLOW_CONTROL_ERROR},
    ),
    "a stream's window beyond 2³¹-1": (
        request(flags=OPEN) + 2 * WindowUpdateFrame(1, 2**31 - 1).serialize(), {Code.FLOW_CONTROL_ERROR},
    ),
    # Messages (§8)
    "a name in upper case": (request(fields=[*REQUEST, ("X-Upper", "x")]), {Code.PROTOCOL_ERROR}),
    "an unknown pseudo-header": (request(fields=[(":odd", "x"), *REQUEST]), {Code.PROTOCOL_ERROR}),
    "a pseudo-header of responses": (request(fields=[*REQUEST[:4], (":status", "200")]), {Code.PROTOCOL_ERROR}),
    "a pseudo-header after a header": (request(fields=[*without(":path"), (":path", "/")]), {Code.PROTOCOL_ERROR}),
    "a pseudo-header in trailers": (
        request(flags=OPEN) + request(fields=[(":method", "x")]), {Code.PROTOCOL_ERROR},
    ),
    "trailers that do not end the stream": (
        request(flags=OPEN) + request(fields=[("x", "y")], flags=OPEN), {Code.PROTOCOL_ERROR},
    ),
    "a Connection header": (request(fields=[*REQUEST, ("connection", "keep-alive")]), {Code.PROTOCOL_ERROR}),
    "a Transfer-Encoding header": (request(fields=[*REQUEST, ("transfer-encoding", "chunked")]), {Code.PROTOCOL_ERROR}),
    "TE other than trailers": (request(fields=[*REQUEST, ("te", "gzip")]), {Code.PROTOCOL_ERROR}),
    "no :method": (request(fields=without(":method")), {Code.PROTOCOL_ERROR}),
    "no :scheme": (request(fields=without(":scheme")), {Code.PROTOCOL_ERROR}),
    "no :path": (request(fields=without(":path")), {Code.PROTOCOL_ERROR}),
    "an empty :path": (request(fields=[*without(":path")[:3], (":path", "")]), {Code.PROTOCOL_ERROR}),
    ":method twice": (request(fields=[REQUEST[0], *REQUEST]), {Code.PROTOCOL_ERROR}),
    ":path twice": (request(fields=[REQUEST[2], *REQUEST]), {Code.PROTOCOL_ERROR}),
    "a length beyond the body": (
        request(fields=[*REQUEST, ("content-length", "5")], flags=OPEN) + LAST,
        {Code.PROTOCOL_ERROR},
    ),
    "a length below the body": (
        request(fields=[*REQUEST, ("content-length", "1")], flags=OPEN) + LAST,
        {Code.PROTOCOL_ERROR},
    ),
    # Floods (§10.5)
    "many PING": (200 * PingFrame(0, b"x" * 8).serialize(), {Code.ENHANCE_YOUR_CALM}),
    "many SETTINGS": (200 * SETTINGS, {Code.ENHANCE_YOUR_CALM}),
    "many empty DATA": (request(flags=OPEN) + 2000 * DataFrame(1, b"").serialize(), {Code.ENHANCE_YOUR_CALM}),
    "many DATA of one byte": (request(flags=OPEN) + 2000 * DataFrame(1, b"x").serialize(), {Code.ENHANCE_YOUR_CALM}),
    "many WINDOW_UPDATE": (5000 * WindowUpdateFrame(0, 1).serialize(), {Code.ENHANCE_YOUR_CALM}),
    "many SETTINGS ACK": (500 * raw(4, 1, 0, b""), {Code.ENHANCE_YOUR_CALM}),
    "many PRIORITY": (1000 * PriorityFrame(1, 0, 1).serialize(), {Code.ENHANCE_YOUR_CALM}),
    "many unknown frames": (1000 * raw(99, 0, 0, b"x"), {Code.ENHANCE_YOUR_CALM}),
    "headers beyond the limit": (
        request(fields=REQUEST, flags=()) + b"".join(
            ContinuationFrame(1, block([(f"h{n}-{m}", "x" * 100) for m in range(100)])).serialize() for n in range(8)
        ) + ContinuationFrame(1, b"", flags=["END_HEADERS"]).serialize(), {Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR},
    ),
}  # fmt: skip


def rapid_reset(count: int) -> bytes:
    return b"".join(request(2 * n + 1) + RstStreamFrame(2 * n + 1, 8).serialize() for n in range(count))


def made_you_reset(count: int) -> bytes:
    """Have the listener itself reset every stream (CVE-2025-8671)."""
    return b"".join(request(2 * n + 1) + raw(8, 0, 2 * n + 1, b"\0\0\0\0") for n in range(count))


WRONG["streams that have to be reset"] = (made_you_reset(3000), {Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR})
WRONG["rapid reset"] = (rapid_reset(3000), {Code.ENHANCE_YOUR_CALM})


class Wire:
    """A raw HTTP/2 connection."""

    def __init__(self, stream: TLSStream) -> None:
        self.stream = stream
        self._unread = b""

    async def frame(self) -> Frame | None:
        """Return the next frame, None at the end."""
        try:
            while len(self._unread) < 9 or len(self._unread) < 9 + int.from_bytes(self._unread[:3]):
                self._unread += await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError):
            return None
        found, length = Frame.parse_frame_header(memoryview(self._unread[:9]))
        found.parse_body(memoryview(self._unread[9 : 9 + length]))
        self._unread = self._unread[9 + length :]
        return found

    async def end(self) -> set[int]:
        """Return the codes with which the peer ended a stream or the connection."""
        codes: set[int] = set()
        while (found := await self.frame()) is not None:
            if isinstance(found, GoAwayFrame):
                return codes | {found.error_code}
            if isinstance(found, RstStreamFrame) and found.error_code:
                return codes | {found.error_code}
        return codes


@pytest.fixture
def wire(authority: Any, echo: Any) -> Any:
    """Return a context that gives a raw connection to a listener, and the listener's address."""
    cert, key = authority.issue("greeter")

    @asynccontextmanager
    async def connected(limits: Limits | None = None, receive: Any = echo) -> Any:
        async with HttpTransport(tls=Tls(cert=cert, key=key)) as transport:
            async with transport.listen("127.0.0.1:0", receive, limits or Limits()) as listener:
                host, _, port = listener.address.rpartition(":")
                context = Tls(ca=authority.file).for_client(["h2"])
                async with await anyio.connect_tcp(host, int(port)) as stream:
                    under = await TLSStream.wrap(
                        stream, hostname="127.0.0.1", ssl_context=context, standard_compatible=False
                    )
                    yield Wire(under), listener

    return connected


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])  # no I/O decides here
@pytest.mark.parametrize("what", WRONG)
async def test_what_may_not_be_is_ended_with_its_code(what: str, wire: Any) -> None:
    sent, codes = WRONG[what]
    async with wire() as (connection, _):
        with anyio.fail_after(5):
            try:
                await connection.stream.send(PREFACE + SETTINGS + sent)
            except (anyio.BrokenResourceError, ssl.SSLError):
                pass
            ended = await connection.end()
    assert {code.name for code in map(Code, ended)} & {code.name for code in codes}, ended


async def test_a_wrong_preface_is_ended(wire: Any) -> None:
    async with wire() as (connection, _):
        await connection.stream.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"x" * 40)
        with anyio.fail_after(5):
            assert await connection.end() <= {Code.PROTOCOL_ERROR}


async def test_a_block_of_headers_that_does_not_end_is_given_up(wire: Any) -> None:
    async with wire(Limits(header_seconds=0.3)) as (connection, _):
        await connection.stream.send(PREFACE + SETTINGS + request(flags=()))
        with anyio.fail_after(3):
            await connection.end()


async def test_a_preface_that_does_not_come_is_given_up(wire: Any) -> None:
    async with wire(Limits(header_seconds=0.3)) as (connection, _):
        with anyio.fail_after(3):
            await connection.end()


async def test_every_split_of_the_frames_is_the_same(wire: Any) -> None:
    async with wire() as (connection, _):
        for byte in PREFACE + SETTINGS + request(flags=OPEN) + DataFrame(1, b"hi", flags=["END_STREAM"]).serialize():
            await connection.stream.send(bytes([byte]))
        with anyio.fail_after(5):
            while not isinstance(found := await connection.frame(), DataFrame):
                assert found is not None
    assert found.data == b"hi"


async def test_a_flood_on_one_connection_leaves_its_neighbour_alone(wire: Any, authority: Any, head: Any) -> None:
    trusting = HttpTransport(tls=Tls(ca=authority.file))
    async with wire() as (connection, listener), trusting as transport:
        channel = transport.connect(Node(id="n", address=listener.address, metadata={"micro": "1"}))
        await channel.call(head, 1, {}, b"before", float("inf"))
        await connection.stream.send(PREFACE + SETTINGS + rapid_reset(3000))
        assert await connection.end() == {Code.ENHANCE_YOUR_CALM}
        assert (await channel.call(head, 2, {}, b"after", float("inf"))).body == b"after"


async def test_reset_calls_are_abandoned(wire: Any) -> None:
    handed_on, abandoned = anyio.Event(), anyio.Event()

    def hold(request: Any) -> None:
        request.abandon = abandoned.set
        handed_on.set()

    async with wire(receive=hold) as (connection, _):
        await connection.stream.send(PREFACE + SETTINGS + request())
        with anyio.fail_after(5):
            await handed_on.wait()  # what is reset before never is
        await connection.stream.send(RstStreamFrame(1, Code.CANCEL).serialize())
        with anyio.fail_after(5):
            await abandoned.wait()


async def test_a_listener_that_stops_says_goodbye_and_finishes_what_it_has(wire: Any) -> None:
    held: list[Any] = []
    arrived = anyio.Event()

    def hold(request: Any) -> None:
        held.append(request)
        arrived.set()

    async with wire(receive=hold) as (connection, listener):
        await connection.stream.send(PREFACE + SETTINGS + request())
        await arrived.wait()
        await listener.stop_accepting()
        with anyio.fail_after(5):
            assert await connection.end() == {Code.NO_ERROR}
            held[0].respond(Head({}), {}, b"done")
            while not isinstance(found := await connection.frame(), DataFrame):
                assert found is not None
    assert found.data == b"done"
