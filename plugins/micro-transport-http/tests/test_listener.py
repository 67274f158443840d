"""The listener towards raw connections: strangers, limits, hostile peers."""

from __future__ import annotations

import subprocess
from typing import Any

import anyio
import anyio.to_thread
import pytest

from micro_core import Head, Limits, Request

pytestmark = pytest.mark.anyio

ANSWER = Head({})


def post(body: bytes = b"", *headers: bytes) -> bytes:
    lines = [b"POST / HTTP/1.1", b"Host: 10.0.0.5:8080", b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


async def test_curl_is_answered_like_a_peer(open_transport: Any, echo: Any, tmp_path: Any) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 2_000_000)

    async def curl(*arguments: str) -> bytes:
        command = ["curl", "--silent", "--show-error", "--max-time", "10", "--noproxy", "*", *arguments]
        return (await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, check=True))).stdout

    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        try:
            json = ["-H", "Content-Type: application/json", "-H", "Micro-Endpoint: Greeter.Hello", listener.address]
            small = await curl("-d", '{"name":"John"}', *json)
            old = await curl("-0", "-d", '{"name":"John"}', *json)
            big = await curl("--data-binary", f"@{large}", "-H", "Expect: 100-continue", listener.address)
            chunked = await curl("-d", "abc", "-H", "Transfer-Encoding: chunked", listener.address)
            two = await curl("-d", "abc", listener.address, listener.address)
            nothing = await curl("-I", listener.address)  # HEAD
        except FileNotFoundError:
            pytest.skip("curl is not installed")

    assert small == old == b'{"name":"John"}'
    assert len(big) == 2_000_000
    assert chunked == b"abc"
    assert two == b"abcabc"
    assert nothing.startswith(b"HTTP/1.1 404 Not Found\r\n")


async def test_any_path_is_taken(open_transport: Any, echo: Any, dial: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(b"POST /some/where?x=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na")
            assert (await raw.message())[1] == b"a"


async def test_an_answer_to_head_has_a_length_and_no_body(open_transport: Any, echo: Any, dial: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(post(b"reply"), b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            answers = await raw.rest()

    assert b"\r\n\r\nreplyHTTP/1.1 404 Not Found\r\n" in answers
    assert answers.endswith(b"\r\nContent-Length: 64\r\n\r\n")


async def test_pipelined_requests_are_handled_one_at_a_time_in_order(open_transport: Any, dial: Any) -> None:
    waiting: list[Request] = []
    arrived = anyio.Event()

    def receive(request: Request) -> None:
        waiting.append(request)
        arrived.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(post(b"1"), post(b"2"), post(b"3"))
            bodies = []
            for _ in range(3):
                await arrived.wait()
                await anyio.wait_all_tasks_blocked()
                assert len(waiting) == 1
                arrived = anyio.Event()
                request = waiting.pop()
                bodies.append(request.body)
                request.respond(ANSWER, {}, request.body)
            answers = [(await raw.message())[1] for _ in range(3)]

    assert bodies == answers == [b"1", b"2", b"3"]


async def test_thousands_of_pipelined_requests_are_answered(open_transport: Any, echo: Any, dial: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        async with dial(listener.address) as raw, anyio.create_task_group() as tasks:
            tasks.start_soon(raw.send, b"".join(post(b"%d" % number) for number in range(5000)))
            for number in range(5000):
                assert (await raw.message())[1] == b"%d" % number


async def test_requests_before_a_broken_one_are_answered_first(open_transport: Any, dial: Any) -> None:
    waiting: list[Request] = []
    arrived = anyio.Event()

    def receive(request: Request) -> None:
        waiting.append(request)
        arrived.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(post(b"1"), b"garbage\r\n\r\n")
            await arrived.wait()
            await anyio.wait_all_tasks_blocked()
            waiting[0].respond(ANSWER, {}, b"1")
            answers = await raw.rest()

    assert answers.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize(
    ("text", "status", "sentence"),
    [
        (post(b"x" * 201), b"413", b"the body is larger than 200 bytes\n"),
        (post(b"", b"A: " + b"x" * 1000), b"431", b"the headers are larger than 1000 bytes\n"),
        (post(b"", b"Content-Length: 0"), b"400", b"malformed HTTP: Duplicate Content-Length\n"),
        (b"POST / HTTP/1.1\r\n\r\n", b"400", b"no Host header\n"),
    ],
)
async def test_what_is_refused_is_told_and_the_connection_closed(
    open_transport: Any, echo: Any, dial: Any, text: bytes, status: bytes, sentence: bytes, bytewise: bool
) -> None:
    limits = Limits(body=200, headers=1000)

    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, limits) as listener:
        async with dial(listener.address) as raw:
            try:
                await (raw.send_bytewise(text) if bytewise else raw.send(text))
            except anyio.BrokenResourceError:
                pass  # Refused before the last byte was sent.
            head, _, body = (await raw.rest()).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n" in head
    assert body == sentence


async def test_a_refused_client_that_is_still_sending_can_read_why(open_transport: Any, echo: Any, dial: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits(body=1000)) as listener:
        async with dial(listener.address) as raw:
            await raw.send(post(b"x" * 3_000_000))
            answer = await raw.rest()

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_headers_that_do_not_come_in_time_are_refused(open_transport: Any, echo: Any, dial: Any) -> None:
    limits = Limits(header_seconds=0.2)

    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, limits) as listener:
        async with dial(listener.address) as silent, dial(listener.address) as slow:
            await slow.send(post(b"1"))
            assert (await slow.message())[1] == b"1"
            await slow.send(b"POST / HTTP/1.1\r\nHost: x\r\n")
            with anyio.fail_after(5):
                texts = [await silent.rest(), await slow.rest()]

    assert all(text.startswith(b"HTTP/1.1 408 ") for text in texts)


async def test_idle_connections_are_closed_and_busy_ones_kept(open_transport: Any, dial: Any) -> None:
    waiting: list[Request] = []
    both = anyio.Event()
    limits = Limits(idle_seconds=0.2, header_seconds=0.2)

    def receive(request: Request) -> None:
        waiting.append(request)
        if len(waiting) == 2:
            both.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, limits) as listener:
        async with dial(listener.address) as idle, dial(listener.address) as busy, dial(listener.address) as stuck:
            await busy.send(post(b"busy"))
            await idle.send(post(b"idle"))
            await stuck.send(post(b"", b"Content-Length: 5")[:-6])
            await both.wait()
            next(request for request in waiting if request.body == b"idle").respond(ANSWER, {}, b"")
            with anyio.fail_after(5):
                assert (await idle.rest()).startswith(b"HTTP/1.1 200 OK")
            await anyio.sleep(0.3)
            next(request for request in waiting if request.body == b"busy").respond(ANSWER, {}, b"still there")
            assert (await busy.message())[1] == b"still there"


async def test_a_claimed_length_is_not_allocated(open_transport: Any, echo: Any, dial: Any) -> None:
    limits = Limits(body=1 << 50, idle_seconds=0.2)

    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, limits) as listener:
        async with dial(listener.address) as raw:
            await raw.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\nabc")
            with anyio.fail_after(5):
                assert await raw.rest() == b""


async def test_unfinished_requests_of_all_connections_together_are_bounded(
    open_transport: Any, echo: Any, dial: Any
) -> None:
    limits = Limits(bytes_in_flight=100_000, header_seconds=0.2)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n"
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, limits) as listener:
        async with dial(listener.address) as small, dial(listener.address) as large:
            await small.send(head + b"x" * 40_000)
            await large.send(head + b"x" * 90_000)
            with anyio.fail_after(5):
                assert b"503" in await large.rest()
            await small.send(b"x" * 160_000)
            with anyio.fail_after(5):
                assert (await small.message())[0].startswith(b"HTTP/1.1 200")


async def test_a_client_that_reads_no_answers_is_read_no_further(open_transport: Any, dial: Any) -> None:
    count = 0

    def receive(request: Request) -> None:
        nonlocal count
        count += 1
        request.respond(ANSWER, {}, b"x" * 100_000)

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        async with dial(listener.address) as raw:
            with anyio.move_on_after(0.5):
                await raw.send(post() * 20_000)
            handled = count
            assert handled < 300
            for _ in range(handled + 10):
                assert len((await raw.message())[1]) == 100_000


async def test_a_caller_that_goes_away_is_told_to_the_handler(open_transport: Any, dial: Any) -> None:
    abandoned, arrived = anyio.Event(), anyio.Event()
    requests: list[Request] = []

    def receive(request: Request) -> None:
        request.abandon = abandoned.set
        requests.append(request)
        arrived.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(post(b"1"))
            await arrived.wait()
        with anyio.fail_after(5):
            await abandoned.wait()
        requests[0].respond(ANSWER, {}, b"for nobody")


async def test_garbage_of_any_kind_leaves_the_listener_well(open_transport: Any, echo: Any, dial: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        for text in (
            b"\x00" * 100,
            b"\x16\x03\x01\x02\x00",
            b"GET\r\n\r\n",
            b"PRJ * HTTP/2.0\r\n\r\n" + b"\xff" * 50,
            b"\r\n" * 1000 + b"\x01",
        ):
            async with dial(listener.address) as raw:
                await raw.send(text)
                assert b" 400 " in await raw.rest()
        async with dial(listener.address) as raw:
            await raw.send(post(b"fine"))
            assert (await raw.message())[1] == b"fine"


async def test_a_receiver_that_raises_costs_its_connection_only(
    open_transport: Any, dial: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def receive(request: Request) -> None:
        if request.body == b"bad":
            raise RuntimeError("a mistake")
        request.respond(ANSWER, {}, request.body)

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        async with dial(listener.address) as good, dial(listener.address) as bad:
            await bad.send(post(b"bad"))
            assert await bad.rest() == b""
            await good.send(post(b"good"))
            assert (await good.message())[1] == b"good"

    assert "a mistake" in caplog.text
