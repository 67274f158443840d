"""Calls through two transports, and to peers that are not ours."""

from __future__ import annotations

import math
import time
from typing import Any

import anyio
import pytest

from micro_core import (
    BadRequest,
    Closed,
    ConnectFailed,
    ConnectionLost,
    EncodeError,
    Executed,
    Head,
    LimitExceeded,
    Limits,
    ProtocolError,
    Request,
    Timeout,
)

pytestmark = pytest.mark.anyio

GO_REST_SECONDS = 0.01
PROTOCOLS = pytest.mark.parametrize("protocols", [("h2", "http/1.1"), ("http/1.1",)], ids=["http2", "http1"])
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@PROTOCOLS
async def test_a_call_returns_the_answer(open_transport: Any, node: Any, head: Head, protocols: Any) -> None:
    seen: list[Request] = []

    def receive(request: Request) -> None:
        seen.append(request)
        request.respond(Head({b"Content-Type": b"application/json"}), {b"Extra": b"1"}, b"reply")

    async with open_transport(protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
            channel = transport.connect(node(listener.address))

            reply = await channel.call(head, 7, {b"Timeout": b"5"}, b"body", math.inf)

    assert reply.body == b"reply"
    number = {b"Micro-Id": b"7"} if protocols == ("http/1.1",) else {}  # HTTP/2 numbers its streams itself
    assert reply.headers == {b"Content-Type": b"application/json", b"Extra": b"1", **number}
    assert seen[0].headers == {**head.headers, b"Timeout": b"5", **number}
    assert seen[0].body == b"body"
    assert seen[0].local == listener.address
    assert seen[0].remote.startswith("127.0.0.1:")
    assert seen[0].stream is None


@PROTOCOLS
async def test_each_of_many_callers_gets_its_own_answer(
    open_transport: Any, node: Any, head: Head, echo: Any, protocols: Any
) -> None:
    async with open_transport(protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", echo, Limits(calls=5)) as listener:
            channel = transport.connect(node(listener.address))

            async def caller(number: int) -> None:
                for turn in range(20):
                    body = b"%d " % number * (turn * 50)
                    reply = await channel.call(head, number * 100 + turn, {}, body, anyio.current_time() + 30)
                    assert reply.body == body

            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(caller, number)


async def test_calls_to_our_peers_share_one_connection(open_transport: Any, node: Any, head: Head) -> None:
    waiting: list[Request] = []
    all_there = anyio.Event()

    def receive(request: Request) -> None:
        waiting.append(request)
        if len(waiting) == 10:
            all_there.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        channel = transport.connect(node(listener.address))
        replies: dict[int, bytes] = {}

        async def caller(number: int) -> None:
            replies[number] = (await channel.call(head, number, {}, b"%d" % number, math.inf)).body

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(caller, number)
            await all_there.wait()
            for request in reversed(waiting):
                request.respond(Head({}), {}, request.body)

        assert replies == {number: b"%d" % number for number in range(10)}
        assert len({request.remote for request in waiting}) == 1


async def test_calls_beyond_what_a_connection_takes_share_as_few_others_as_carry_them(
    open_transport: Any, node: Any, head: Head
) -> None:
    waiting: list[Request] = []
    all_there = anyio.Event()

    def receive(request: Request) -> None:
        waiting.append(request)
        if len(waiting) == 5:
            all_there.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits(calls=2)) as listener:
        channel = transport.connect(node(listener.address))
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(channel.call, head, number, {}, b"", math.inf)
            await all_there.wait()
            for request in waiting:
                request.respond(Head({}), {}, b"")
    used = [request.remote for request in waiting]
    assert sorted(used.count(remote) for remote in set(used)) == [1, 2, 2]


async def test_calls_beyond_as_many_connections_as_the_pool_may_have_wait_for_room(
    open_transport: Any, node: Any, head: Head
) -> None:
    taken, arrive = anyio.create_memory_object_stream[Request](10)
    async with (
        open_transport(pool_size=1) as transport,
        transport.listen("127.0.0.1:0", taken.send_nowait, Limits(calls=2)) as listener,
        taken,
        arrive,
    ):
        channel = transport.connect(node(listener.address))
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(channel.call, head, number, {}, b"", math.inf)
            first, second = await arrive.receive(), await arrive.receive()
            await anyio.wait_all_tasks_blocked()
            assert arrive.statistics().current_buffer_used == 0
            first.respond(Head({}), {}, b"")
            second.respond(Head({}), {}, b"")
            for _ in range(3):
                (await arrive.receive()).respond(Head({}), {}, b"")


async def test_a_large_request_does_not_hold_up_a_small_one(
    open_transport: Any, node: Any, head: Head, echo: Any
) -> None:
    done: list[int] = []

    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        channel = transport.connect(node(listener.address))

        async def call(number: int, size: int) -> None:
            assert len((await channel.call(head, number, {}, b"x" * size, math.inf)).body) == size
            done.append(number)

        await call(1, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, 2, 4_000_000)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(call, 3, 1)
        assert repr(channel).endswith("1 connections, 0 calls>")
    assert done == [1, 3, 2]


@PROTOCOLS
async def test_a_deadline_that_has_passed_sends_nothing(
    open_transport: Any, node: Any, head: Head, echo: Any, protocols: Any
) -> None:
    async with open_transport(protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", echo, Limits()) as listener:
            channel = transport.connect(node(listener.address))
            for number in range(2):
                with pytest.raises(Timeout) as caught:
                    await channel.call(head, number, {}, b"", anyio.current_time() - 1)
                assert caught.value.executed is Executed.NO
                await channel.call(head, 10 + number, {}, b"", math.inf)


@PROTOCOLS
async def test_a_call_ends_at_its_deadline_and_its_handler_is_told(
    open_transport: Any, node: Any, head: Head, protocols: Any
) -> None:
    abandoned = anyio.Event()

    def receive(request: Request) -> None:
        request.abandon = abandoned.set

    async with open_transport(protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
            channel = transport.connect(node(listener.address))

            with pytest.raises(Timeout) as caught:
                await channel.call(head, 1, {}, b"", anyio.current_time() + 0.2)

            assert caught.value.executed is Executed.MAYBE
            with anyio.fail_after(5):
                await abandoned.wait()


@PROTOCOLS
async def test_a_cancelled_call_tells_its_handler_and_leaves_the_others_alone(
    open_transport: Any, node: Any, head: Head, protocols: Any
) -> None:
    requests: dict[bytes, Request] = {}
    both, abandoned = anyio.Event(), anyio.Event()
    abandoned_ids: list[bytes] = []

    def receive(request: Request) -> None:
        id = request.body
        requests[id] = request

        def abandon() -> None:
            abandoned_ids.append(id)
            abandoned.set()

        request.abandon = abandon
        if len(requests) == 2:
            both.set()

    async with open_transport(protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
            channel = transport.connect(node(listener.address))
            replies: list[bytes] = []

            async def survivor() -> None:
                replies.append((await channel.call(head, 2, {}, b"2", math.inf)).body)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(survivor)
                with anyio.CancelScope() as scope:

                    async def give_up() -> None:
                        await both.wait()
                        scope.cancel()

                    tasks.start_soon(give_up)
                    await channel.call(head, 1, {}, b"1", math.inf)
                with anyio.fail_after(5):
                    await abandoned.wait()
                requests[b"1"].respond(Head({}), {}, b"too late")
                requests[b"2"].respond(Head({}), {}, b"in time")

            assert replies == [b"in time"]
            assert abandoned_ids == [b"1"]


async def test_an_address_where_nobody_listens_fails_as_not_executed(
    open_transport: Any, node: Any, head: Head, echo: Any
) -> None:
    async with open_transport() as transport:
        async with transport.listen("127.0.0.1:0", echo, Limits()) as listener:
            address = listener.address
        channel = transport.connect(node(address))

        with pytest.raises(ConnectFailed, match=f"cannot connect to {address}") as caught:
            await channel.call(head, 1, {}, b"", math.inf)

    assert caught.value.executed is Executed.NO
    assert caught.value.node == address


@PROTOCOLS
async def test_a_lost_connection_fails_what_was_in_flight_and_the_next_call_reconnects(
    open_transport: Any, node: Any, head: Head, echo: Any, protocols: Any
) -> None:
    arrived = anyio.Event()

    async with open_transport(protocols=protocols) as transport:
        channel: Any = None
        errors: list[ConnectionLost] = []

        async def doomed(number: int) -> None:
            with pytest.raises(ConnectionLost) as caught:
                await channel.call(head, number, {}, b"", math.inf)
            errors.append(caught.value)

        count = 0

        def receive(request: Request) -> None:
            nonlocal count
            count += 1
            if count == 3:
                arrived.set()

        async with anyio.create_task_group() as tasks:
            async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
                address = listener.address
                channel = transport.connect(node(address))
                for number in range(3):
                    tasks.start_soon(doomed, number)
                await arrived.wait()
        async with transport.listen(address, echo, Limits()):
            assert (await channel.call(head, 9, {}, b"again", math.inf)).body == b"again"

    assert [error.executed for error in errors] == [Executed.MAYBE] * 3
    assert len({id(error) for error in errors}) == 3


@PROTOCOLS
async def test_a_connection_closed_while_idle_is_replaced_silently(
    open_transport: Any, node: Any, head: Head, echo: Any, protocols: Any
) -> None:
    async with open_transport(protocols=protocols) as transport:
        async with transport.listen("127.0.0.1:0", echo, Limits()) as listener:
            address = listener.address
            channel = transport.connect(node(address))
            await channel.call(head, 1, {}, b"", math.inf)
        time.sleep(0.002)  # noqa: ASYNC251 - longer than a connection is taken for fresh, and the loop sees nothing of it
        async with transport.listen(address, echo, Limits()):
            assert (await channel.call(head, 2, {}, b"again", math.inf)).body == b"again"


async def test_pooled_connections_are_reused_one_call_at_a_time(
    open_transport: Any, node: Any, head: Head, peer: Any, go_metadata: dict[str, str]
) -> None:
    heads: list[bytes] = []
    connections = 0

    async def go(raw: Any) -> None:
        nonlocal connections
        connections += 1
        while True:
            heads.append((await raw.message())[0])
            await raw.send(REPLY)

    async with open_transport(pool_size=1) as transport, peer(go) as address:
        channel = transport.connect(node(address, go_metadata))
        for number in range(3):
            assert (await channel.call(head, number, {}, b"", math.inf)).body == b"ok"
        await transport.aclose()

    assert connections == 1
    assert all(text.startswith(b"POST / HTTP/1.1\r\nHost: " + address.encode()) for text in heads)
    assert not any(b"Upgrade" in text for text in heads)


async def test_a_connection_to_a_go_peer_rests_before_it_is_used_again(
    open_transport: Any, node: Any, head: Head, peer: Any, go_metadata: dict[str, str]
) -> None:
    """Go Micro from v4.10 on never answers a request that follows its answer too closely (docs/wire.md §3.2)."""
    gaps: list[float] = []

    async def go(raw: Any) -> None:
        answered = -math.inf
        while True:
            await raw.message()
            gaps.append(anyio.current_time() - answered)
            await raw.send(REPLY)
            answered = anyio.current_time()

    async with open_transport() as transport, peer(go) as address:
        channel = transport.connect(node(address, go_metadata))
        while min(gaps, default=math.inf) == math.inf:  # until a connection is used again
            await channel.call(head, 1, {}, b"", math.inf)
        await transport.aclose()

    assert min(gaps) >= GO_REST_SECONDS


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 505 No\r\nContent-Length: 0\r\n\r\n",
        b"\0\0\0\4\0\0\0\0\0",  # HTTP/2, as Go Micro's servers speak it in clear text, and none of ours
        b"",
    ],
)
async def test_an_unknown_peer_is_offered_http2_once_and_then_called_one_at_a_time(
    open_transport: Any, node: Any, head: Head, peer: Any, answer: bytes
) -> None:
    starts: list[bytes] = []

    async def stranger(raw: Any) -> None:
        while True:
            text, _ = await raw.message()
            starts.append(text.split(b" ")[0])
            if text.startswith(b"PRI"):
                if answer:
                    await raw.send(answer)
                return
            await raw.send(REPLY)

    async with open_transport() as transport, peer(stranger) as address:
        channel = transport.connect(node(address, {}))
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(channel.call, head, number, {}, b"", math.inf)
        await transport.connect(node(address, {})).call(head, 9, {}, b"", math.inf)
        await transport.aclose()

    assert starts.count(b"PRI") == 1
    assert starts.count(b"POST") == 6


async def test_a_peer_that_says_nothing_to_http2_is_called_one_at_a_time(
    open_transport: Any, node: Any, head: Head, peer: Any
) -> None:
    async def silent(raw: Any) -> None:
        while True:
            text, _ = await raw.message()
            if text.startswith(b"POST"):
                await raw.send(REPLY)

    async with open_transport(dial_timeout=0.2) as transport, peer(silent) as address:
        reply = await transport.connect(node(address, {})).call(head, 1, {}, b"", math.inf)
        await transport.aclose()

    assert reply.body == b"ok"


@pytest.mark.parametrize(
    ("status", "error", "executed"),
    [
        (b"400 Bad Request", BadRequest, Executed.NO),
        (b"408 Request Timeout", Timeout, Executed.NO),
        (b"413 Content Too Large", LimitExceeded, Executed.NO),
        (b"431 Request Header Fields Too Large", LimitExceeded, Executed.NO),
        (b"500 Internal Server Error", ProtocolError, Executed.MAYBE),
        (b"204 No Content", ProtocolError, Executed.MAYBE),
    ],
)
async def test_answers_that_are_no_replies_become_errors(
    open_transport: Any, node: Any, head: Head, peer: Any, go_metadata: Any, status: bytes, error: Any, executed: Any
) -> None:
    async def refusing(raw: Any) -> None:
        await raw.message()
        length = b"" if status.startswith(b"204") else b"Content-Length: 6\r\n"
        await raw.send(b"HTTP/1.1 ", status, b"\r\n", length, b"\r\n", b"reason" if length else b"")
        await raw.rest()

    async with open_transport() as transport, peer(refusing) as address:
        with pytest.raises(error, match=status[:3].decode()) as caught:
            await transport.connect(node(address, go_metadata)).call(head, 1, {}, b"", math.inf)
        await transport.aclose()

    assert caught.value.executed is executed


@pytest.mark.parametrize("text", [b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\nA: b\n\n", b"HTTP/1.1 101 X\r\n\r\n", b"\x00"])
async def test_nonsense_is_a_protocol_error(
    open_transport: Any, node: Any, head: Head, peer: Any, go_metadata: Any, text: bytes
) -> None:
    async def babbling(raw: Any) -> None:
        await raw.message()
        await raw.send(text)
        await raw.rest()

    async with open_transport() as transport, peer(babbling) as address:
        with pytest.raises(ProtocolError):
            await transport.connect(node(address, go_metadata)).call(head, 1, {}, b"", math.inf)
        await transport.aclose()


async def test_a_reply_that_is_too_large_is_refused(
    open_transport: Any, node: Any, head: Head, peer: Any, go_metadata: Any
) -> None:
    async def boasting(raw: Any) -> None:
        await raw.message()
        await raw.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        await raw.rest()

    async with open_transport() as transport, peer(boasting) as address:
        with pytest.raises(LimitExceeded, match="reply"):
            await transport.connect(node(address, go_metadata)).call(head, 1, {}, b"", math.inf)
        await transport.aclose()


async def test_a_request_that_the_server_finds_too_large_is_not_executed(
    open_transport: Any, node: Any, head: Head, echo: Any
) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits(body=100_000)) as listener:
        channel = transport.connect(node(listener.address))

        with pytest.raises(LimitExceeded, match="the body is larger than 100000 bytes") as caught:
            await channel.call(head, 1, {}, b"x" * 200_000, math.inf)

    assert caught.value.executed is Executed.NO


async def test_a_header_with_a_line_feed_is_refused_before_anything_is_sent(
    open_transport: Any, node: Any, head: Head, echo: Any
) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        channel = transport.connect(node(listener.address))
        with pytest.raises(EncodeError):
            await channel.call(head, 1, {b"A": b"b\r\nEvil: 1"}, b"", math.inf)

        assert (await channel.call(head, 2, {}, b"fine", math.inf)).body == b"fine"


async def test_a_closed_channel_refuses_calls_and_lets_those_under_way_end(
    open_transport: Any, node: Any, head: Head
) -> None:
    waiting: list[Request] = []
    arrived = anyio.Event()

    def receive(request: Request) -> None:
        waiting.append(request)
        arrived.set()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", receive, Limits()) as listener:
        channel = transport.connect(node(listener.address))
        replies: list[bytes] = []

        async def caller() -> None:
            replies.append((await channel.call(head, 1, {}, b"", math.inf)).body)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller)
            await arrived.wait()
            await channel.aclose()
            await channel.aclose()
            with pytest.raises(Closed):
                await channel.call(head, 2, {}, b"", math.inf)
            waiting[0].respond(Head({}), {}, b"done")

        assert replies == [b"done"]


async def test_ten_thousand_calls_leave_nothing_behind(open_transport: Any, node: Any, head: Head, echo: Any) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", echo, Limits()) as listener:
        channel = transport.connect(node(listener.address))

        async def caller(first: int) -> None:
            for number in range(first, first + 200):
                with anyio.CancelScope() as scope:
                    if number % 50 == 0:
                        scope.cancel()
                    reply = await channel.call(head, number, {}, b"%d" % number, anyio.current_time() + 30)
                    assert reply.body == b"%d" % number

        async with anyio.create_task_group() as tasks:
            for caller_number in range(50):
                tasks.start_soon(caller, caller_number * 200)

        assert repr(channel) == f"<HttpChannel {listener.address} open, 1 connections, 0 calls>"
