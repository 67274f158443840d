"""What every client owes: the promises of `micro_core.client`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from micro_conformance.rpc_work import SERVICE, Declined, Greeting, Work, call, memory_parts, node_of, record_of, stream
from micro_conformance.suite import SOON, Suite, promise
from micro_core import Call, Caller, Closed, Conflict, Executed, Limits, MicroError, NoNode, Timeout
from micro_core.testing import make_part

__all__ = ["ClientConformance"]


class ClientConformance(Suite):
    """Subclass it, and give ``plugin`` and ``options``. The peer is the server ``rpc`` on the memory parts."""

    kind = "client"

    @asynccontextmanager
    async def calling(self, *, nodes: int = 1, absent: int = 0, silent: int = 0) -> AsyncIterator[tuple[Caller, Work]]:
        """Open a client of ``nodes`` nodes that share their work, and of some where nobody listens or answers."""
        work = Work()
        async with memory_parts(self.network) as (registry, parts), AsyncExitStack() as stack:
            server = make_part("server", "rpc", **parts)
            addresses = [f"127.0.0.1:{number + 1}" for number in range(absent)]
            for _ in range(nodes):
                serving = server.serve(SERVICE, "127.0.0.1:0", work.handlers, nothing, Limits())
                addresses.append((await stack.enter_async_context(serving)).address)
            for _ in range(silent):
                listening = parts["transport"].listen("127.0.0.1:0", work.unanswered.append, Limits())
                addresses.append((await stack.enter_async_context(listening)).address)
            for number, address in enumerate(addresses):
                await registry.register(record_of(node_of(address, server, number)))
            made = self.make(registry=registry, selector=make_part("selector", "roundrobin"), **parts)
            assert isinstance(made, Caller)
            yield await stack.enter_async_context(made), work

    # Calls

    @promise()
    async def test_a_reply_is_of_the_response_type(self) -> None:
        async with self.calling() as (client, _):
            assert await client.call(call("Hello", "John", Greeting)) == Greeting("Hello John")

    @promise()
    async def test_calls_at_once_get_their_own_replies(self) -> None:
        replies: dict[str, str] = {}

        async def one(text: str) -> None:
            replies[text] = await client.call(call("Echo", text))

        async with self.calling(nodes=2) as (client, _):
            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(one, str(number))
        assert replies == {str(number): str(number) for number in range(50)}

    @promise()
    async def test_metadata_of_a_call_is_sent(self) -> None:
        async with self.calling() as (client, _):
            assert await client.call(call("Header", "tenant", metadata={"tenant": "Grüße"})) == "Grüße"

    @promise()
    async def test_a_handlers_error_arrives_as_its_class_with_code_id_and_detail(self) -> None:
        async with self.calling() as (client, _):
            with pytest.raises(Conflict) as raised:
                await client.call(call("Taken", "John"))
        error = raised.value
        assert (error.code, error.id, error.detail, error.executed) == (409, "names", "John is taken", Executed.YES)

    @promise()
    async def test_an_error_of_the_applications_own_that_a_call_names_is_raised_with_its_details(self) -> None:
        async with self.calling() as (client, _):
            with pytest.raises(Declined) as raised:
                await client.call(call("Decline", "John", errors=[Declined]))
        assert (raised.value.details, raised.value.code) == ({"name": "John"}, 409)

    @promise()
    async def test_a_service_that_nobody_offers_has_no_node(self) -> None:
        async with self.calling() as (client, _):
            with pytest.raises(NoNode) as raised:
                await client.call(Call("nobody", "Work.Echo", "a", str))
        assert raised.value.executed is Executed.NO

    @promise()
    async def test_a_deadline_that_passes_is_a_timeout(self) -> None:
        async with self.calling() as (client, _):
            with pytest.raises(Timeout):
                await client.call(call("Hold", timeout=SOON))

    # Another attempt

    @promise()
    async def test_what_was_not_executed_is_tried_at_another_node(self) -> None:
        async with self.calling(nodes=1, absent=1) as (client, _):
            assert [await client.call(call("Echo", text)) for text in "abcd"] == list("abcd")

    @promise()
    async def test_an_idempotent_call_is_tried_again_where_it_may_have_been_executed(self) -> None:
        async with self.calling(nodes=1, silent=1) as (client, work):
            calls = [call("Echo", text, idempotent=True, attempt_timeout=SOON) for text in "abcd"]
            assert [await client.call(each) for each in calls] == list("abcd")
            assert work.unanswered

    @promise()
    async def test_another_call_is_not_tried_again_where_it_may_have_been_executed(self) -> None:
        failed = 0
        async with self.calling(nodes=1, silent=1) as (client, work):
            for text in "abcd":
                try:
                    await client.call(call("Echo", text, timeout=3 * SOON, attempt_timeout=SOON))
                except MicroError:
                    failed += 1
            assert failed == len(work.unanswered) > 0

    # Streams

    @promise()
    async def test_a_stream_goes_both_ways_until_its_end(self) -> None:
        async with self.calling() as (client, _):
            chat = await client.open(stream("Chat"))
            for text in "abc":
                await chat.send(text)
                assert await chat.receive() == text.upper()
            await chat.close_send()
            with pytest.raises(StopAsyncIteration):
                await chat.receive()
            await chat.aclose()

    @promise()
    async def test_a_stream_takes_nothing_after_close_send(self) -> None:
        async with self.calling() as (client, _):
            chat = await client.open(stream("Chat"))
            await chat.close_send()
            await chat.close_send()
            with pytest.raises(Closed):
                await chat.send("a")
            await chat.aclose()
            await chat.aclose()

    # The end

    @promise()
    async def test_use_after_close_raises_closed(self) -> None:
        async with self.calling() as (client, _):
            await client.aclose()
            await client.aclose()
            with pytest.raises(Closed):
                await client.call(call("Echo"))


async def nothing(*event: object) -> None:
    """Take an event, of which none come."""
