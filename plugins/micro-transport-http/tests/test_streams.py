"""Streams: messages both ways, at the receiver's pace."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest

from micro_core import BadRequest, Closed, ConnectFailed, ConnectionLost, Head, Limits, Node, Request, Stream

pytestmark = pytest.mark.anyio

ANSWER = Head({b"Content-Type": b"application/json"})
OPEN = {b"Micro-Id": b"7", b"Micro-Stream": b"7"}


class Requests:
    """Takes requests, and gives them to a test."""

    def __init__(self) -> None:
        self.send, self._receive = anyio.create_memory_object_stream[Request](100)

    def __call__(self, request: Request) -> None:
        self.send.send_nowait(request)

    async def next(self) -> Request:
        with anyio.fail_after(5):
            return await self._receive.receive()

    async def next_stream(self) -> tuple[Request, Stream]:
        request = await self.next()
        assert request.stream is not None
        return request, request.stream

    def close(self) -> None:
        self.send.close()
        self._receive.close()


@pytest.fixture(params=[{"micro": "1"}, {"protocol": "mucp"}], ids=["ours", "go"])
def node(request: pytest.FixtureRequest) -> Any:
    """Describe a node of ours, which is spoken to over HTTP/2, and one of Go Micro's."""

    def make(address: str) -> Node:
        return Node(id="node-1", address=address, metadata=request.param)

    return make


@pytest.fixture
def requests() -> Any:
    taken = Requests()
    yield taken
    taken.close()


async def test_messages_go_both_ways_in_order(open_transport: Any, node: Any, head: Head, requests: Requests) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"open")
        await stream.send(head, OPEN, b"one")
        await stream.send(head, OPEN, b"two")
        request, served = await requests.next_stream()
        received = [(await served.receive()).body for _ in range(2)]
        await served.send(ANSWER, {}, b"three")
        await served.send(ANSWER, {b"Micro-Error": b"EOS"}, b"")
        first, second = await stream.receive(), await stream.receive()
        await served.aclose()
        await stream.aclose()
        await stream.aclose()

    assert request.body == b"open"
    assert request.headers[b"Micro-Stream"] == b"7"
    assert received == [b"one", b"two"]
    assert first.body == b"three"
    assert first.headers[b"Content-Type"] == b"application/json"
    assert second.headers[b"Micro-Error"] == b"EOS"


async def test_later_messages_carry_the_ids_of_the_first(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        await stream.send(head, {}, b"one")
        _, served = await requests.next_stream()
        message = await served.receive()
        await served.aclose()
        await stream.aclose()

    assert message.headers == {**head.headers, **OPEN}


async def test_a_fast_sender_waits_for_a_slow_receiver(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    body = b"x" * 10_000

    async def sends(stream: Stream, headers: dict[bytes, bytes]) -> int:
        """Send until it takes too long; return how many were tried."""
        count = 0
        with anyio.move_on_after(0.5):
            while count < 5000:
                count += 1
                await stream.send(head, headers, body)
        return count

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        _, served = await requests.next_stream()

        to_server = await sends(stream, OPEN)
        to_client = await sends(served, {})
        for _ in range(to_server - 1):
            assert (await served.receive()).body == body
        for _ in range(to_client - 1):
            assert (await stream.receive()).body == body
        await served.aclose()
        await stream.aclose()

    assert 10 < to_server < 2000
    assert 10 < to_client < 2000


async def test_a_waiting_sender_goes_on_when_the_receiver_reads(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    count, body = 1000, b"x" * 10_000

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        _, served = await requests.next_stream()

        async def send_all() -> None:
            for _ in range(count):
                await stream.send(head, OPEN, body)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_all)
            for _ in range(count):
                assert (await served.receive()).body == body
        await served.aclose()
        await stream.aclose()


async def test_a_client_that_leaves_is_noticed_after_its_last_message(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    abandoned = anyio.Event()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        request, served = await requests.next_stream()
        request.abandon = abandoned.set
        await stream.send(head, OPEN, b"last")
        await stream.aclose()
        await anyio.wait_all_tasks_blocked()

        assert (await served.receive()).body == b"last"
        with pytest.raises(ConnectionLost), anyio.fail_after(5):
            await served.receive()
        with anyio.fail_after(5):
            await abandoned.wait()
        with pytest.raises(ConnectionLost):
            await served.send(ANSWER, {}, b"")
        await served.aclose()


async def test_a_client_that_leaves_wakes_a_waiting_handler(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    abandoned = anyio.Event()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        request, served = await requests.next_stream()
        request.abandon = abandoned.set

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stream.aclose)
            with pytest.raises(ConnectionLost), anyio.fail_after(5):
                await served.receive()
            await abandoned.wait()
        await served.aclose()


async def test_a_server_that_goes_away_is_noticed_after_its_last_message(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    async with open_transport() as transport:
        async with transport.listen("127.0.0.1:0", requests, Limits()) as listener:
            stream = await transport.connect(node(listener.address)).open_stream(math.inf)
            await stream.send(head, OPEN, b"")
            _, served = await requests.next_stream()
            await served.send(ANSWER, {}, b"last")
            assert (await stream.receive()).body == b"last"

        with pytest.raises(ConnectionLost):
            await stream.receive()
        with pytest.raises(ConnectionLost):
            await stream.send(head, OPEN, b"")
        await stream.aclose()


async def test_a_cancelled_receive_loses_nothing(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        _, served = await requests.next_stream()
        with anyio.move_on_after(0.01):
            await stream.receive()
        await served.send(ANSWER, {}, b"one")

        assert (await stream.receive()).body == b"one"
        await served.aclose()
        await stream.aclose()


async def test_a_stream_may_be_refused_with_an_ordinary_answer(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        request, _ = await requests.next_stream()
        request.respond(ANSWER, {b"Micro-Error": b"no such endpoint"}, b"")

        assert (await stream.receive()).headers[b"Micro-Error"] == b"no such endpoint"
        await stream.aclose()


@pytest.mark.parametrize("first", ["discards", "leaves"])
async def test_a_caller_that_leaves_is_noticed_at_once_by_who_has_discarded_the_rest(
    open_transport: Any, node: Any, head: Head, requests: Requests, first: str
) -> None:
    abandoned = anyio.Event()

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        request, served = await requests.next_stream()
        request.abandon = abandoned.set
        await stream.send(head, OPEN, b"never received")
        if first == "discards":
            served.discard()
        await stream.aclose()
        if first == "leaves":
            while "lost" not in repr(served):  # noqa: ASYNC110
                await anyio.sleep(0.001)
            assert not abandoned.is_set()
            served.discard()
        with anyio.fail_after(5):
            await abandoned.wait()
        await served.aclose()


async def test_a_closed_stream_refuses_use(open_transport: Any, node: Any, head: Head, requests: Requests) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.aclose()

        with pytest.raises(Closed):
            await stream.send(head, OPEN, b"")
        with pytest.raises(Closed):
            await stream.receive()
    assert "closed" in repr(stream)


async def test_a_stream_to_nobody_fails_to_connect(open_transport: Any, node: Any, requests: Requests) -> None:
    async with open_transport() as transport:
        async with transport.listen("127.0.0.1:0", requests, Limits()) as listener:
            pass
        with pytest.raises(ConnectFailed):
            await transport.connect(node(listener.address)).open_stream(math.inf)


async def test_nonsense_of_the_client_ends_the_stream(open_transport: Any, dial: Any, requests: Requests) -> None:
    abandoned = anyio.Event()
    start = b"POST / HTTP/1.1\r\nHost: x\r\nMicro-Id: 7\r\nX-Micro-Stream: 7\r\nContent-Length: 0\r\n\r\n"

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(start)
            request, served = await requests.next_stream()
            request.abandon = abandoned.set
            await raw.send(b"garbage\r\n\r\n")
            with pytest.raises(ConnectionLost, match="nonsense"):
                await served.receive()
            await abandoned.wait()
            assert (await raw.rest()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        await served.aclose()


async def test_go_streams_on_one_connection_as_the_wire_document_shows(
    open_transport: Any, dial: Any, requests: Requests
) -> None:
    def message(body: bytes, *more: bytes) -> bytes:
        lines = [b"POST / HTTP/1.1", b"Host: 192.168.1.10:40123", b"User-Agent: Go-http-client/1.1", *more]
        lines += [b"Content-Type: application/json", b"Micro-Endpoint: Greeter.Stream", b"Micro-Id: 7"]
        return b"\r\n".join([*lines, b"Micro-Stream: 7", b"", body])

    opening = message(b"{}\n", b"Content-Length: 3")
    argument = message(b'{"count":2}\n', b"Content-Length: 12")
    end = message(b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Micro-Error: EOS")

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(opening, argument)
            request, served = await requests.next_stream()
            assert request.body == b"{}\n"
            assert (await served.receive()).body == b'{"count":2}\n'
            await served.send(ANSWER, {}, b'{"msg":"one"}\n')
            await served.send(ANSWER, {}, b'{"msg":"two"}\n')
            await served.send(ANSWER, {b"Micro-Error": b"EOS"}, b"")
            await served.aclose()
            messages = [await raw.message() for _ in range(3)]

            # The end of the client's side comes after the handler's end and is for nobody.
            await raw.send(end)
            assert await raw.rest() == b""

    assert [body for _, body in messages] == [b'{"msg":"one"}\n', b'{"msg":"two"}\n', b""]
    assert b"Micro-Error: EOS\r\n" in messages[2][0]
    assert all(b"Micro-Id: 7\r\n" in text for text, _ in messages)


async def test_after_a_refused_stream_its_messages_are_for_nobody_and_another_request_is_new(
    open_transport: Any, dial: Any, requests: Requests
) -> None:
    start = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"

    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        async with dial(listener.address) as raw:
            await raw.send(start, b"Micro-Stream: 7\r\n\r\n")
            request, served = await requests.next_stream()
            request.respond(ANSWER, {b"Micro-Error": b"no such endpoint"}, b"")
            await served.aclose()
            await raw.send(start, b"Micro-Stream: 7\r\nMicro-Error: EOS\r\n\r\n", start, b"Micro-Id: 8\r\n\r\n")
            after = await requests.next()
            after.respond(ANSWER, {}, b"fine")
            answers = [await raw.message(), await raw.message()]

    assert after.stream is None
    assert after.headers[b"Micro-Id"] == b"8"
    assert b"Micro-Error: no such endpoint\r\n" in answers[0][0]
    assert answers[1][1] == b"fine"


async def test_another_request_on_a_streams_connection_is_refused(
    open_transport: Any, head: Head, requests: Requests, go_metadata: Any
) -> None:
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        node = Node(id="go", address=listener.address, metadata=go_metadata)
        stream = await transport.connect(node).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        _, served = await requests.next_stream()
        await stream.send(head, {b"Micro-Id": b"8", b"Micro-Stream": b"8"}, b"")

        with pytest.raises(BadRequest, match="one stream"):
            await stream.receive()
        await served.aclose()
        await stream.aclose()


async def test_thousands_of_messages_without_a_body_are_no_flood(
    open_transport: Any, node: Any, head: Head, requests: Requests
) -> None:
    count = 3000
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        stream = await transport.connect(node(listener.address)).open_stream(math.inf)
        await stream.send(head, OPEN, b"")
        _, served = await requests.next_stream()
        with anyio.fail_after(30):
            for _ in range(count):
                await stream.send(head, OPEN, b"")
                assert (await served.receive()).body == b""
                await served.send(ANSWER, {}, b"")
                assert (await stream.receive()).body == b""
        await served.aclose()
        await stream.aclose()


async def test_a_large_last_message_is_sent_though_the_server_ends_the_stream_as_soon_as_it_has_it(
    open_transport: Any, head: Head, requests: Requests
) -> None:
    piece = b"x" * (1 << 20)  # more than a turn's, so that its sender waits until the peer has taken some of it
    async with open_transport() as transport, transport.listen("127.0.0.1:0", requests, Limits()) as listener:
        channel = transport.connect(Node(id="node-1", address=listener.address, metadata={"micro": "1"}))
        for _ in range(10):
            stream = await channel.open_stream(math.inf)
            await stream.send(head, OPEN, b"")
            _, served = await requests.next_stream()

            async def answer(served: Stream = served) -> None:
                await served.receive()
                await served.send(ANSWER, {}, b"thanks")
                await served.aclose()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer)
                await stream.send(head, OPEN, piece)
                assert (await stream.receive()).body == b"thanks"
            await stream.aclose()
