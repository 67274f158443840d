"""What every server owes: the promises of `micro_core.server`."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from micro_conformance.rpc_work import SERVICE, Declined, Greeting, Work, call, memory_parts, node_of, record_of, stream
from micro_conformance.suite import Suite, promise
from micro_core import (
    Caller,
    Channel,
    Conflict,
    ConnectFailed,
    Context,
    Executed,
    Forbidden,
    Head,
    InternalError,
    Limits,
    Message,
    MicroError,
    NotFound,
    Running,
    Server,
    Unavailable,
)
from micro_core.message import canonical
from micro_core.testing import make_part

__all__ = ["ServerConformance"]


@dataclass
class Served:
    """A server that runs, and the ways to it."""

    server: Server
    running: Running
    client: Caller
    channel: Channel
    work: Work
    events: list[tuple[str, bytes]]
    leave: Callable[[], Awaitable[None]]
    """Leaves the server's context."""

    async def ask(self, body: bytes = b'"a"', **headers: str) -> Message:
        """Send a request to `Work.Echo` with changed headers, empty ones left out, and return the reply as it is."""
        usual = {"micro_endpoint": "Work.Echo", "micro_service": SERVICE, "content_type": "application/json"}
        given = {name.replace("_", "-"): value for name, value in (usual | headers).items() if value}
        sent = {canonical(name).encode(): value.encode() for name, value in given.items()}
        return await self.channel.call(Head(sent), 1, {}, body, math.inf)

    async def try_call(self, method: str) -> None:
        """Make a call whatever becomes of it."""
        try:
            await self.client.call(call(method, timeout=math.inf, retries=0))
        except MicroError:
            pass


class ServerConformance(Suite):
    """Subclass it, and give ``plugin`` and ``options``. Callers are the client ``rpc`` on the memory parts."""

    kind = "server"

    @asynccontextmanager
    async def serving(self, **parts_of_the_server: Any) -> AsyncIterator[Served]:
        """Run a server of `Work` and a client of it; an event of body ``"bad"`` fails, ``"slow"`` waits."""
        work = Work()
        events: list[tuple[str, bytes]] = []

        async def on_event(topic: str, message: Message, context: Context) -> None:
            if message.body == b'"slow"':
                await work.released.wait()
            if message.body == b'"bad"':
                raise Conflict("no such news")
            events.append((topic, message.body))

        async with memory_parts(self.network) as (registry, parts):
            selector = make_part("selector", "roundrobin")
            client = make_part("client", "rpc", registry=registry, selector=selector, **parts)
            server = self.make(**parts, **parts_of_the_server)
            assert isinstance(server, Server)
            serving = server.serve(SERVICE, "127.0.0.1:0", work.handlers, on_event, Limits())
            async with client, AsyncExitStack() as stack:
                running = await stack.enter_async_context(serving)
                node = node_of(running.address, server)
                await registry.register(record_of(node))
                channel = parts["transport"].connect(node)
                yield Served(server, running, client, channel, work, events, stack.aclose)

    @promise()
    async def test_nodes_say_which_protocol_it_speaks(self) -> None:
        async with self.serving() as served:
            assert served.server.metadata.get("protocol")

    # Calls

    @promise()
    async def test_a_call_is_answered_by_its_handler(self) -> None:
        async with self.serving() as served:
            assert await served.client.call(call("Hello", "John", Greeting)) == Greeting("Hello John")

    @promise()
    async def test_an_unknown_endpoint_is_not_found_and_not_executed(self) -> None:
        async with self.serving() as served:
            with pytest.raises(NotFound) as raised:
                await served.client.call(call("Nothing"))
        assert raised.value.executed is Executed.NO

    @promise()
    async def test_an_error_that_a_handler_means_arrives_as_it_is(self) -> None:
        async with self.serving() as served:
            with pytest.raises(Conflict, match="John is taken") as raised:
                await served.client.call(call("Taken", "John"))
        assert raised.value.executed is Executed.YES

    @promise()
    async def test_an_error_of_the_applications_own_arrives_with_its_details(self) -> None:
        async with self.serving() as served:
            with pytest.raises(Declined) as raised:
                await served.client.call(call("Decline", "John", errors=[Declined]))
        assert raised.value.details == {"name": "John"}

    @promise()
    async def test_an_error_that_a_handler_lets_through_from_a_call_of_its_own_names_no_node(self) -> None:
        async with self.serving() as served:
            with pytest.raises(Unavailable) as raised:
                await served.client.call(call("LetThrough", "10.1.2.3:4444"))
        assert "10.1.2.3" not in raised.value.detail

    @promise()
    async def test_any_other_exception_is_masked_and_its_neighbours_go_on(self) -> None:
        async with self.serving() as served, anyio.create_task_group() as tasks:
            tasks.start_soon(served.client.call, call("Hold"))
            await served.work.started.wait()
            with pytest.raises(InternalError) as raised:
                await served.client.call(call("Fail", "secret"))
            assert "secret" not in str(raised.value)
            assert not served.work.cancelled.is_set()
            served.work.released.set()

    @promise()
    async def test_streams_of_every_kind(self) -> None:
        async with self.serving() as served:
            for method, sent, got in [
                ("Count", ["a"], ["a 0", "a 1", "a 2"]),
                ("Join", ["a", "b", "c"], ["a, b, c"]),
                ("Chat", ["a", "b", "c"], ["A", "B", "C"]),
            ]:
                opened = await served.client.open(stream(method))
                for text in sent:
                    await opened.send(text)
                await opened.close_send()
                assert [text async for text in opened] == got
                await opened.aclose()

    @promise()
    async def test_calls_under_way_have_their_own_metadata(self) -> None:
        replies: dict[str, str] = {}

        async def one(text: str) -> None:
            replies[text] = await served.client.call(call("Late", "tenant", metadata={"tenant": text}))

        async with self.serving() as served, anyio.create_task_group() as tasks:
            for text in "abcde":
                tasks.start_soon(one, text)
        assert replies == {text: text for text in "abcde"}

    @promise()
    async def test_a_handler_is_told_the_deadline_of_its_call(self) -> None:
        async with self.serving() as served:
            assert 0 < float(await served.client.call(call("Remaining", timeout=5.0))) <= 5

    @promise()
    async def test_a_body_that_does_not_fit_is_a_bad_request(self) -> None:
        async with self.serving() as served:
            for body in (b"7", b'{"a"', b"\xff"):
                assert code_of(await served.ask(body)) == 400
            assert (await served.ask()).body == b'"a"'

    @promise()
    async def test_a_content_type_that_nobody_codes_is_a_bad_request(self) -> None:
        async with self.serving() as served:
            assert code_of(await served.ask(content_type="application/x-unknown")) == 400

    @promise()
    async def test_a_call_for_another_service_is_not_found(self) -> None:
        async with self.serving() as served:
            assert code_of(await served.ask(micro_service="somebody-else")) == 404

    @promise()
    async def test_a_stream_is_answered_before_its_last_request(self) -> None:
        async with self.serving() as served:
            opened = await served.client.open(stream("Chat"))
            for text in "abc":
                await opened.send(text)
                assert await opened.receive() == text.upper()
            await opened.aclose()

    @promise()
    async def test_a_stream_that_breaks_off_tells_so_behind_what_it_sent(self) -> None:
        async with self.serving() as served:
            opened = await served.client.open(stream("Break"))
            await opened.send("a")
            await opened.close_send()
            assert [await opened.receive(), await opened.receive()] == ["a 0", "a 1"]
            with pytest.raises(Conflict, match="no more of a"):
                await opened.receive()
            await opened.aclose()

    @promise()
    async def test_an_event_that_fails_is_told_and_the_next_one_comes(self) -> None:
        async with self.serving() as served:
            assert code_of(await served.ask(b'"bad"', micro_topic="news")) == 409
            await served.ask(b'"good"', micro_topic="news")
            assert served.events == [("news", b'"good"')]

    @promise()
    async def test_an_event_is_answered_when_it_was_handled(self) -> None:
        async with self.serving() as served, anyio.create_task_group() as tasks:
            answered = anyio.Event()

            async def tell() -> None:
                await served.ask(b'"slow"', micro_topic="news")
                answered.set()

            tasks.start_soon(tell)
            with anyio.move_on_after(0.1):
                await answered.wait()
            assert not answered.is_set()
            served.work.released.set()
            await answered.wait()
            assert served.events == [("news", b'"slow"')]

    # What goes round a handler

    @promise()
    async def test_a_guard_looks_at_events_too(self) -> None:
        def guard(context: Context) -> None:
            raise Forbidden(f"nothing about {context.endpoint}")

        async with self.serving(guards=(guard,)) as served:
            assert code_of(await served.ask(micro_topic="news", micro_endpoint="")) == 403
            assert served.events == []

    @promise()
    async def test_a_guard_that_fails_lets_nobody_in(self) -> None:
        def guard(context: Context) -> None:
            raise RuntimeError("the guard is out of order")

        async with self.serving(guards=(guard,)) as served:
            with pytest.raises(MicroError):
                await served.client.call(call("Taken", retries=0))
            assert served.work.taken_calls == 0

    @promise()
    async def test_a_guard_refuses_before_anything_runs(self) -> None:
        asked: list[str] = []

        def guard(context: Context) -> None:
            asked.append(context.endpoint)
            if context.endpoint != "Work.Echo":
                raise Forbidden("not you")

        async with self.serving(guards=(guard,)) as served:
            assert await served.client.call(call("Echo")) == "a"
            with pytest.raises(Forbidden) as raised:
                await served.client.call(call("Taken"))
            opened = await served.client.open(stream("Tail"))
            with pytest.raises(Forbidden):
                await opened.receive()
            await opened.aclose()
            assert asked == ["Work.Echo", "Work.Taken", "Work.Tail"]
            assert (served.work.taken_calls, raised.value.executed) == (0, Executed.NO)

    @promise()
    async def test_middleware_goes_round_every_handler_the_first_outermost(self) -> None:
        async def outer(context: Context, request: Any, handle: Any) -> Any:
            return f"({await handle(context, request)})"

        async def inner(context: Context, request: Any, handle: Any) -> Any:
            return f"[{await handle(context, request + '!')}]"

        async with self.serving(middleware=(outer, inner)) as served:
            assert await served.client.call(call("Echo")) == "([a!])"

    # Events

    @promise()
    async def test_an_event_comes_to_on_event(self) -> None:
        async with self.serving() as served:
            headers = {b"Micro-Topic": b"news", b"Content-Type": b"application/json"}
            reply = await served.channel.call(Head(headers), 1, {}, b'"body"', math.inf)
            assert served.events == [("news", b'"body"')]
            assert not reply.headers.get(b"Micro-Error")

    # What cancels a handler

    @promise()
    async def test_the_deadline_of_a_call_cancels_its_handler(self) -> None:
        async with self.serving() as served:
            headers = {b"Micro-Endpoint": b"Work.Hold", b"Micro-Service": SERVICE.encode(), b"Timeout": b"100000000"}
            head = Head({**headers, b"Content-Type": b"application/json"})
            reply = await served.channel.call(head, 1, {}, b'"a"', math.inf)
            assert served.work.cancelled.is_set()
            assert reply.headers[b"Micro-Error"]

    @promise()
    async def test_a_caller_that_goes_away_cancels_its_handler(self) -> None:
        async with self.serving() as served:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(served.client.call, call("Hold", timeout=math.inf))
                await served.work.started.wait()
                tasks.cancel_scope.cancel()
            await served.work.cancelled.wait()

    @promise()
    async def test_a_caller_that_leaves_a_stream_cancels_its_handler(self) -> None:
        async with self.serving() as served:
            opened = await served.client.open(stream("Tail"))
            await opened.send("a")
            await opened.receive()
            await opened.aclose()
            await served.work.cancelled.wait()

    @promise()
    async def test_leaving_cancels_what_is_left(self) -> None:
        async with anyio.create_task_group() as tasks:
            async with self.serving() as served:
                tasks.start_soon(served.try_call, "Hold")
                await served.work.started.wait()
            assert served.work.cancelled.is_set()

    @promise()
    async def test_nobody_listens_when_a_server_was_left(self) -> None:
        async with self.serving() as served:
            await served.leave()
            with pytest.raises(ConnectFailed):
                await served.ask()

    # Draining

    @promise()
    async def test_drain_waits_for_what_is_in_flight(self) -> None:
        async with self.serving() as served, anyio.create_task_group() as tasks:
            tasks.start_soon(served.client.call, call("Hold", timeout=math.inf))
            await served.work.started.wait()
            with anyio.move_on_after(0.1) as waiting:
                await served.running.drain()
            assert waiting.cancelled_caught
            assert served.running.in_flight == 1
            served.work.released.set()
            await served.running.drain()
            assert served.running.in_flight == 0

    @promise()
    async def test_drain_waits_for_streams(self) -> None:
        async with self.serving() as served:
            opened = await served.client.open(stream("Tail"))
            await opened.send("a")
            await opened.receive()
            with anyio.move_on_after(0.1) as waiting:
                await served.running.drain()
            assert waiting.cancelled_caught
            served.work.released.set()
            await served.running.drain()
            await opened.aclose()

    @promise()
    async def test_what_failed_is_not_in_flight(self) -> None:
        async with self.serving() as served:
            for method in ("Taken", "Fail", "Nothing"):
                await served.try_call(method)
            await served.running.drain()
            assert served.running.in_flight == 0

    @promise()
    async def test_a_server_that_drains_refuses_new_calls_as_not_executed(self) -> None:
        async with self.serving() as served:
            assert await served.client.call(call("Echo")) == "a"  # there is a connection from now on
            await served.running.drain()
            with pytest.raises(MicroError) as raised:
                await served.client.call(call("Echo", retries=0))
        assert raised.value.executed is Executed.NO


def code_of(reply: Message) -> int:
    """Return the code of the error in a reply, 0 for none."""
    error = reply.headers.get(b"Micro-Error")
    return int(json.loads(error)["code"]) if error else 0
