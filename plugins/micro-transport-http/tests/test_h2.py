"""Calls and streams over HTTP/2, between peers of ours and with strangers who know nothing of us."""

from __future__ import annotations

import math
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from micro_core import Closed, ConnectFailed, ConnectionLost, Executed, Head, LimitExceeded, Limits, Node, Timeout, Tls
from micro_transport_http import HttpTransport
from micro_transport_http.client.http2 import Http2Client
from micro_transport_http.http2 import frames, silence
from micro_transport_http.http2.writing_blocks import BlockWriter

pytestmark = pytest.mark.anyio

OURS = {"micro": "1", "protocol": "mucp"}
STREAM = {b"Micro-Stream": b"7", b"Micro-Id": b"7"}


@pytest.fixture
def tls(authority: Any) -> Tls:
    cert, key = authority.issue("greeter")
    return Tls(cert=cert, key=key, ca=authority.file)


@pytest.fixture
def ends(open_transport: Any, tls: Tls, echo: Any) -> Any:
    """Open a channel over HTTP/2 and the listener that it leads to."""

    @asynccontextmanager
    async def opened(receive: Any = echo, limits: Limits | None = None, protocols: Any = ("h2",)) -> AsyncIterator[Any]:
        async with open_transport(tls=tls, protocols=protocols) as transport:
            async with transport.listen("127.0.0.1:0", receive, limits or Limits()) as listener:
                channel = transport.connect(Node(id="n", address=listener.address, metadata=OURS))
                yield channel, listener
                await channel.aclose()

    return opened


class Held:
    """A receiver that answers nothing by itself, but what warms up the connection."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.arrived = anyio.Event()
        self.abandoned = anyio.Event()

    def __call__(self, request: Any) -> None:
        if request.body == b"warm":
            request.respond(Head({}), {}, b"")
            return
        request.abandon = self.abandoned.set
        self.requests.append(request)
        self.arrived.set()


async def test_calls_share_one_connection_and_a_stream_each(ends: Any, head: Any) -> None:
    async with ends() as (channel, _), anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(channel.call, head, number + 1, {}, b"x", math.inf)
        await anyio.lowlevel.checkpoint()
        await channel.call(head, 100, {}, b"x", math.inf)
        assert [type(connection) for connection in channel._pool._connections] == [Http2Client]


@pytest.mark.parametrize(
    ("protocols", "spoken"),
    [(("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "http/1.1"), (("http/1.1",), "http/1.1")],
)
async def test_the_order_of_protocols_is_a_setting(ends: Any, head: Any, protocols: Any, spoken: str) -> None:
    async with ends(protocols=protocols) as (channel, _):
        await channel.call(head, 1, {}, b"x", math.inf)
        assert [connection.link.protocol for connection in channel._pool._connections] == [spoken]


async def test_a_cancelled_call_resets_its_stream_alone(ends: Any, head: Any) -> None:
    held = Held()
    async with ends(held) as (channel, _), anyio.create_task_group() as tasks:
        tasks.start_soon(channel.call, head, 1, {}, b"x", math.inf)
        await held.arrived.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True), anyio.fail_after(5):
            await held.abandoned.wait()
        assert len(channel._pool) == 1


async def test_a_call_that_is_too_late_is_reset(ends: Any, head: Any) -> None:
    held = Held()
    async with ends(held) as (channel, _):
        await channel.call(head, 1, {}, b"warm", math.inf)
        with pytest.raises(Timeout):
            await channel.call(head, 2, {}, b"x", anyio.current_time() + 0.1)
        with anyio.fail_after(5):
            await held.abandoned.wait()


async def test_what_is_too_large_is_refused_and_its_neighbours_go_on(ends: Any, head: Any) -> None:
    async with ends(limits=Limits(body=1000)) as (channel, _):
        await channel.call(head, 1, {}, b"x", math.inf)
        with pytest.raises(LimitExceeded) as raised:
            await channel.call(head, 2, {}, b"x" * 1001, math.inf)
        assert raised.value.executed is Executed.NO
        connections = list(channel._pool._connections)
        await channel.call(head, 3, {}, b"x", math.inf)
        assert list(channel._pool._connections) == connections


async def test_a_listener_that_stops_sends_callers_elsewhere_and_answers_what_it_has(ends: Any, head: Any) -> None:
    held, replies = Held(), []

    async def call() -> None:
        replies.append((await channel.call(head, 1, {}, b"under way", math.inf)).body)

    async with ends(held) as (channel, listener), anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        await held.arrived.wait()
        await listener.stop_accepting()
        await anyio.sleep(0.2)  # the GOAWAY is on its way
        with pytest.raises(ConnectFailed):
            await channel.call(head, 2, {}, b"x", math.inf)
        held.requests[0].respond(Head({}), {}, b"done")
    assert replies == [b"done"]


async def test_a_slow_reader_stops_the_writer_and_little_lies_in_between(ends: Any, head: Any) -> None:
    held, sent, message = Held(), 0, b"x" * 65_536

    async def send() -> None:
        nonlocal sent
        with suppress(Closed):  # the end of the test, where it comes before the cancellation
            while True:
                await stream.send(Head({}), {}, message)
                sent += len(message)

    async with ends(held) as (channel, _), anyio.create_task_group() as tasks:
        stream = await channel.open_stream(math.inf)
        await stream.send(head, STREAM, b"first")
        await held.arrived.wait()
        tasks.start_soon(send)
        before = -1
        while sent != before:
            before = sent
            await anyio.sleep(0.5)
        assert 0 < sent < 4 * 1024 * 1024
        # The others go on meanwhile.
        held.arrived = anyio.Event()
        tasks.start_soon(channel.call, head, 9, {}, b"x", math.inf)
        await held.arrived.wait()
        held.requests[1].respond(Head({}), {}, b"")
        for _ in range(100):
            await held.requests[0].stream.receive()
        assert sent > before
        tasks.cancel_scope.cancel()
        await stream.aclose()


@pytest.mark.parametrize("what", ["call", "stream"])
async def test_a_peer_that_owes_something_and_is_silent_is_asked_and_given_up(
    open_transport: Any, head: Head, peer: Any, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(silence, "ASK_SECONDS", 0.2)
    monkeypatch.setattr("micro_transport_http.client.http2.LOOK_SECONDS", 0.1)
    heard, all_heard = b"", anyio.Event()

    async def frozen(raw: Any) -> None:
        nonlocal heard
        await raw.send(frames.settings({frames.Setting.MICRO: 1}))
        heard = await raw.rest()
        all_heard.set()

    async with open_transport() as transport, peer(frozen) as address:
        channel = transport.connect(Node(id="n", address=address, metadata=OURS))

        async def wait_for_it() -> None:
            if what == "call":
                await channel.call(head, 1, {}, b"x", math.inf)
            else:
                stream = await channel.open_stream(math.inf)
                await stream.send(head, STREAM, b"x")
                await stream.receive()

        with anyio.fail_after(5), pytest.raises(ConnectionLost, match="went away"):
            await wait_for_it()
        await transport.aclose()
        with anyio.fail_after(5):
            await all_heard.wait()
    assert b"micro-up" in heard


async def test_a_caller_that_is_silent_while_its_call_is_under_way_is_asked_and_given_up(
    open_transport: Any, dial: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "ASK_SECONDS", 0.3)
    held = Held()
    async with open_transport() as transport:
        limits = Limits(header_seconds=0.4)  # a listener looks four times as often
        async with transport.listen("127.0.0.1:0", held, limits) as listener, dial(listener.address) as raw:
            writer = BlockWriter([(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")])
            block = writer.message(Head({}), {})
            await raw.send(frames.PREFACE, frames.settings({}), frames.message_frames(1, block, b"x"))
            with anyio.fail_after(5):
                await held.arrived.wait()
                heard = await raw.rest()
                await held.abandoned.wait()
    assert b"micro-up" in heard


@pytest.fixture
def url(tls: Tls) -> Any:
    """Serve an echo that a stranger finds at a URL."""

    @asynccontextmanager
    async def serving(receive: Any) -> AsyncIterator[str]:
        async with HttpTransport(tls=tls) as transport:
            async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
                yield f"https://{listener.address}/"

    return serving


async def test_curl_makes_a_call(url: Any, echo: Any, tls: Tls) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    async with url(echo) as address:
        command = [
            curl,
            "-sS",
            "--http2",
            "--cacert",
            tls.ca,
            "-w",
            "\n%{http_version} %{response_code}",
            "--max-time",
            "5",
        ]
        command += ["-H", "Content-Type: application/json", "-H", "Micro-Endpoint: Greeter.Hello", "-d", '{"name":"x"}']
        done = await anyio.run_process([*command, address])
    assert done.stdout.decode() == '{"name":"x"}\n2 200'


@pytest.mark.parametrize("http2", [True, False])
async def test_httpx_makes_calls(url: Any, echo: Any, tls: Tls, http2: bool) -> None:
    trusting = ssl.create_default_context(cafile=tls.ca)
    async with url(echo) as address, httpx.AsyncClient(http2=http2, verify=trusting, trust_env=False) as stranger:
        answers = [await stranger.post(address, json={"number": number}) for number in range(3)]
        large = await stranger.post(address, content=b"x" * 1_000_000)
    assert [answer.json() for answer in answers] == [{"number": 0}, {"number": 1}, {"number": 2}]
    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    assert large.content == b"x" * 1_000_000


@pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load is Debian's nghttp2-client, which CI installs")
async def test_h2load_finds_nothing_wrong(url: Any, echo: Any) -> None:
    async with url(echo) as address:
        done = await anyio.run_process(
            ["h2load", "-n", "500", "-c", "4", "-m", "20", "-d", __file__, address], check=False
        )
    assert "500 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout.decode(), done.stdout.decode()


@pytest.mark.skipif(shutil.which("nghttp") is None, reason="nghttp is Debian's nghttp2-client, which CI installs")
async def test_nghttp_finds_nothing_wrong(url: Any, echo: Any) -> None:
    async with url(echo) as address:
        done = await anyio.run_process(
            ["nghttp", "-nv", "-y", "-d", __file__, "-H", "micro-endpoint: A.B", address], check=False
        )
    shown = done.stdout.decode()
    assert (":status: 200" in shown, "END_STREAM" in shown, "RST_STREAM" in shown) == (True, True, False), shown


def test_a_wrong_order_of_protocols_is_a_config_error() -> None:
    for protocols in ((), ("h3",), ("h2", "h2")):
        with pytest.raises(Exception, match="is not valid; write some of h2,http/1"):
            HttpTransport(protocols=protocols)
