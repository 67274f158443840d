"""What other peers send to the rpc port: legacy envelopes, fallback headers, events, stray ends of streams."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from micro_core import CallOptionsDict, Channel, ConnectionLost, Context, Head, Limits, Message, Node, Request, Stream
from micro_core.builtin.memory.transport import MemoryTransport
from micro_core.testing import world

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def port(events: list[Any]) -> AsyncIterator[tuple[Channel, Any]]:
    async with world() as here, MemoryTransport(network=here.network) as transport:
        service = here.service("greeter", linger=0)

        @service.handler(name="Greeter")
        async def hello(request: dict[str, str], context: Context) -> str:
            return f"Hello {request['name']}"

        @service.handler(name="Chat")
        class Chat:
            async def echo(self, requests: AsyncIterator[str]) -> AsyncIterator[str]:
                async for request in requests:
                    yield request

        @service.subscriber("greetings")
        async def first(message: str) -> None:
            events.append(("first", message))
            if message == "bad":
                raise RuntimeError

        @service.subscriber("greetings")
        async def second(message: str, context: Context) -> None:
            events.append((context.endpoint, message))

        async with service:
            yield transport.connect(Node(id="n", address=service.address)), service
            assert service._running is not None
            assert service._running.in_flight == 0


async def send(channel: Channel, headers: dict[str, str], body: bytes) -> Message:
    raw = {name.encode(): value.encode() for name, value in headers.items()}
    return await channel.call(Head(raw), 1, {}, body, anyio.current_time() + 5)


async def test_a_request_without_our_headers_is_read_as_json_rpc() -> None:
    async with port([]) as (channel, _):
        request = b'{"method":"Greeter.Hello","params":[{"name":"John"}],"id":"7"}'
        reply = await send(channel, JSON, request)
        assert msgspec.json.decode(reply.body) == {"id": "7", "result": "Hello John", "error": None}
        assert reply.headers[b"Content-Type"] == b"application/json"


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8 ; a=b"]
)
async def test_a_content_type_may_have_parameters_and_capitals(content_type: str) -> None:
    events: list[Any] = []
    async with port(events) as (channel, _):
        headers = {"Micro-Endpoint": "Greeter.Hello", "Micro-Service": "greeter", "Content-Type": content_type}
        for _ in range(2):
            reply = await send(channel, headers, b'{"name":"John"}')
            assert (reply.body, reply.headers[b"Content-Type"]) == (b'"Hello John"', b"application/json")
        await send(channel, {"Micro-Topic": "greetings", "Content-Type": content_type}, b'"Ada"')
        assert ("first", "Ada") in events


async def test_an_error_is_in_the_legacy_envelope_too() -> None:
    async with port([]) as (channel, _):
        reply = await send(channel, JSON, b'{"method":"Greeter.Nothing","params":[{}],"id":"7"}')
        assert msgspec.json.decode(reply.body)["error"] == reply.headers[b"Micro-Error"].decode()
        assert b'"code":404' in reply.headers[b"Micro-Error"]


@pytest.mark.parametrize("name", ["Micro-Endpoint", "Micro-Method", "X-Micro-Endpoint", "X-Micro-Method"])
async def test_the_endpoint_may_stand_in_any_of_four_headers(name: str) -> None:
    async with port([]) as (channel, _):
        for timeout in ("soon", "-1", "5000000000"):
            headers = JSON | {name: "Greeter.Hello", "Timeout": timeout}
            assert (await send(channel, headers, b'{"name":"John"}')).body == b'"Hello John"'


async def test_debug_health_answers_in_json_and_in_protobuf() -> None:
    async with port([]) as (channel, _):
        headers = {"Micro-Endpoint": "Debug.Health"}
        assert (await send(channel, headers | JSON, b"{}")).body == b'{"status":"ok"}'
        protobuf = {"Content-Type": "application/protobuf"}
        assert (await send(channel, headers | protobuf, b"")).body == b"\x0a\x02ok"


async def test_debug_stats_answers_in_json_and_in_protobuf() -> None:
    async with port([]) as (channel, _):
        headers = {"Micro-Endpoint": "Debug.Stats"}
        stats = msgspec.json.decode((await send(channel, headers | JSON, b"{}")).body)
        assert stats["started"] <= stats["timestamp"]
        assert stats["threads"] >= 1
        protobuf = (await send(channel, headers | {"Content-Type": "application/protobuf"}, b"")).body
        assert protobuf[:1] == b"\x08"
        assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(protobuf[1:6])) >= stats["timestamp"]


async def test_a_content_type_that_nobody_knows_is_a_400() -> None:
    async with port([]) as (channel, _):
        reply = await send(channel, {"Content-Type": "text/x", "Micro-Endpoint": "Greeter.Hello"}, b"")
        assert b'"code":400' in reply.headers[b"Micro-Error"]
        assert b'"executed":"no"' in reply.headers[b"Micro-Error"]


async def test_an_event_reaches_every_subscriber_of_its_topic_even_if_one_fails() -> None:
    events: list[Any] = []
    async with port(events) as (channel, _):
        assert b"Micro-Error" not in (await send(channel, JSON | {"Micro-Topic": "greetings"}, b'"John"')).headers
        assert b"Micro-Error" in (await send(channel, JSON | {"Micro-Topic": "greetings"}, b'"bad"')).headers
        assert b"Micro-Error" not in (await send(channel, JSON | {"Micro-Topic": "other"}, b'"John"')).headers
    assert events == [("first", "John"), ("greetings", "John"), ("first", "bad"), ("greetings", "bad")]


async def test_a_unary_request_that_says_it_is_an_end_is_answered_like_any_other() -> None:
    async with port([]) as (channel, _):
        for _ in range(2):  # before and after its route is known
            headers = JSON | {"Micro-Endpoint": "Greeter.Hello", "Micro-Error": "EOS"}
            assert (await send(channel, headers, b'{"name":"John"}')).body == b'"Hello John"'


async def test_the_end_of_a_stream_that_has_ended_runs_no_handler() -> None:
    async with port([]) as (channel, service):
        headers = {b"Content-Type": b"application/json", b"Micro-Endpoint": b"Greeter.Hello"}
        await send(channel, {name.decode(): value.decode() for name, value in headers.items()}, b'{"name":"John"}')
        stream = await channel.open_stream(anyio.current_time() + 5)
        await stream.send(Head(headers | {b"Micro-Id": b"2", b"Micro-Stream": b"2", b"Micro-Error": b"EOS"}), {}, b"")
        with pytest.raises(ConnectionLost):
            await stream.receive()
        assert service._running.in_flight == 0
        await stream.aclose()


async def test_every_message_of_a_framed_stream_has_its_envelope_the_last_one_too() -> None:
    """Go's clients read the envelope before they look at the header (docs/wire.md §3.5)."""
    assert await framed_stream("Chat.Echo", b'"hi"') == [b'{"id":"2","result":"hi","error":null}\n', *ended("EOS")]


async def test_the_refusal_of_a_framed_stream_has_an_envelope() -> None:
    (body,) = await framed_stream("Chat.Nowhere")
    assert '"code":404' in msgspec.json.decode(body)["error"]


async def test_an_unknown_endpoint_is_answered_in_the_envelope_that_was_asked_in() -> None:
    async with port([]) as (channel, _):
        headers = {"Content-Type": "application/json-rpc", "Micro-Endpoint": "Greeter.Nowhere"}
        reply = await send(channel, headers, b'{"method":"Greeter.Nowhere","params":[{}],"id":"7"}')
        assert '"code":404' in msgspec.json.decode(reply.body)["error"]


def ended(error: str) -> list[bytes]:
    return [b'{"id":"","result":null,"error":"%s"}\n' % error.encode()]


async def test_a_client_s_framed_stream_begins_and_ends_with_an_envelope() -> None:
    """Go's servers read the envelope of every message, the one that they throw away too."""
    got: list[bytes] = []
    done = anyio.Event()

    def receive(request: Request) -> None:
        assert request.stream is not None
        got.append(request.body)
        service.start_soon(read, request.stream)

    async def read(stream: Stream) -> None:
        got.append((await stream.receive()).body)
        await stream.aclose()
        done.set()

    async with world() as here, MemoryTransport(network=here.network) as transport, here.client() as client:
        service = client
        async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
            options: CallOptionsDict = {"content_type": "application/json-rpc", "address": listener.address}
            async with client.stream("chat", "Chat.Echo", str, **options) as stream:
                await stream.close_send()
                with anyio.fail_after(5):
                    await done.wait()
    assert [msgspec.json.decode(body)["method"] for body in got] == ["Chat.Echo", "Chat.Echo"]


async def framed_stream(endpoint: str, *arguments: bytes) -> list[bytes]:
    """Return the bodies that come back on a json-rpc stream, up to the one that ends it."""
    async with port([]) as (channel, _):
        names = {b"Content-Type": b"application/json-rpc", b"Micro-Endpoint": endpoint.encode()}
        head = Head(names | {b"Micro-Id": b"2", b"Micro-Stream": b"2"})
        stream = await channel.open_stream(anyio.current_time() + 5)
        for argument in (b"null", *arguments):
            await stream.send(head, {}, b'{"method":"Chat.Echo","params":[%s],"id":"2"}' % argument)
        if arguments:
            await stream.send(head, {b"Micro-Error": b"EOS"}, b'{"method":"Chat.Echo","params":[null],"id":"2"}')
        bodies = []
        while True:
            message = await stream.receive()
            bodies.append(message.body)
            if b"Micro-Error" in message.headers:
                break
        await stream.aclose()
        return bodies


async def test_a_body_without_a_content_type_names_no_endpoint() -> None:
    """A web page can have a browser post any bytes, and then there is none."""
    async with port([]) as (channel, _):
        reply = await send(channel, {}, b'{"method":"Greeter.Hello","params":[{"name":"John"}],"id":"7"}')
        assert b'"code":400' in reply.headers[b"Micro-Error"]
        assert b"names no endpoint" in reply.headers[b"Micro-Error"]


async def test_local_and_remote_are_the_server_s_to_say() -> None:
    seen: list[Context] = []
    async with world() as here, MemoryTransport(network=here.network) as transport:
        service = here.service("greeter", linger=0)

        @service.handler(name="Greeter")
        async def hello(request: dict[str, str], context: Context) -> str:
            seen.append(context)
            return ""

        async with service:
            channel = transport.connect(Node(id="n", address=service.address))
            forged = {"Remote": "6.6.6.6:6", "Local": "6.6.6.6:7", "Micro-Endpoint": "Greeter.Hello"}
            await send(channel, {**JSON, **forged}, b"{}")

    (context,) = seen
    assert context.local
    assert context.metadata.get("local") == context.headers[b"Local"].decode() == context.local
    assert context.metadata.get("remote", "") == context.headers.get(b"Remote", b"").decode() == context.remote
