"""What every client owes: the promises of `micro_core.client`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from micro_conformance.rpc_work import SERVICE, Declined, Greeting, Work, call, memory_parts, node_of, record_of, stream
from micro_conformance.suite import SOON, Suite, promise
from micro_core import (
    Call,
    Caller,
    Closed,
    Conflict,
    DecodeError,
    Executed,
    Filter,
    Limits,
    MicroError,
    Node,
    NoNode,
    Record,
    Registry,
    Selector,
    Timeout,
)
from micro_core.client import Attempt, ClientDefaults
from micro_core.middleware import AttemptNext
from micro_core.testing import make_part

__all__ = ["ClientConformance"]


class ClientConformance(Suite):
    """Subclass it, and give ``plugin`` and ``options``. The peer is the server ``rpc`` on the memory parts."""

    kind = "client"

    registry: Registry
    records: Sequence[Record]

    @asynccontextmanager
    async def calling(
        self, *, nodes: int = 1, absent: int = 0, silent: int = 0, **parts_of_the_client: Any
    ) -> AsyncIterator[tuple[Caller, Work]]:
        """Open a client of ``nodes`` nodes that share their work, and of some where nobody listens or answers.

        Each node is registered in `records`, at `registry`.
        """
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
            self.registry = registry
            self.records = [record_of(node_of(address, server, number)) for number, address in enumerate(addresses)]
            for record in self.records:
                await registry.register(record)
            parts = {"registry": registry, "selector": make_part("selector", "roundrobin"), **parts}
            made = self.make(**{**parts, **parts_of_the_client})
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

    @promise()
    async def test_a_reply_that_does_not_fit_is_a_decode_error(self) -> None:
        async with self.calling() as (client, _):
            with pytest.raises(DecodeError):
                await client.call(call("Echo", "a", int))

    @promise()
    async def test_the_deadline_goes_with_the_call(self) -> None:
        async with self.calling() as (client, _):
            assert 0 < float(await client.call(call("Remaining", timeout=5.0))) <= 5

    @promise()
    async def test_the_usual_timeout_holds_where_a_call_names_none(self) -> None:
        async with self.calling(defaults=ClientDefaults(timeout=SOON)) as (client, _):
            begun = anyio.current_time()
            with pytest.raises(MicroError):
                await client.call(call("Hold"))
            # A difference of two readings of a clock that counts milliseconds is not exact.
            assert SOON - 0.01 < anyio.current_time() - begun < self.patience / 2

    @promise()
    async def test_a_cancelled_call_cancels_its_handler(self) -> None:
        async with self.calling() as (client, work):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call, call("Hold", timeout=math.inf))
                await work.started.wait()
                tasks.cancel_scope.cancel()
            await work.cancelled.wait()

    @promise()
    async def test_a_held_call_holds_up_no_other(self) -> None:
        async with self.calling() as (client, work), anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, call("Hold", timeout=math.inf))
            await work.started.wait()
            await client.call(call("Echo"))
            work.released.set()

    @promise()
    async def test_what_a_caller_gave_stays_as_it_is(self) -> None:
        metadata = {"tenant": "a"}

        async def middleware(attempt: Attempt, attempt_next: AttemptNext) -> Any:
            attempt.metadata["tenant"] = "b"
            return await attempt_next(attempt)

        async with self.calling(middleware=(middleware,)) as (client, _):
            made = call("Header", "tenant", metadata=metadata)
            assert [await client.call(made) for _ in range(2)] == ["b", "b"]
            assert (metadata, made.metadata, made.options.metadata) == (
                {"tenant": "a"},
                {"tenant": "a"},
                {"tenant": "a"},
            )

    @promise()
    async def test_middleware_goes_round_every_attempt_and_sees_its_node(self) -> None:
        seen: list[str] = []

        async def middleware(attempt: Attempt, attempt_next: AttemptNext) -> Any:
            seen.append(attempt.node.id)
            attempt.metadata["tenant"] = "from middleware"
            return await attempt_next(attempt)

        async with self.calling(nodes=1, absent=1, middleware=(middleware,)) as (client, _):
            for _ in range(2):
                assert await client.call(call("Header", "tenant")) == "from middleware"
        assert set(seen) == {f"{SERVICE}-0", f"{SERVICE}-1"}

    # Which node

    @promise()
    async def test_a_call_to_an_address_goes_there_and_asks_no_registry(self) -> None:
        async with self.calling(nodes=2) as (client, _):
            await self.registry.deregister(self.records[1])
            address = self.records[1].nodes[0].address
            for _ in range(4):
                assert await client.call(call("Where", address=address)) == address

    @promise()
    async def test_filters_say_which_nodes_may_be_called(self) -> None:
        async with self.calling(nodes=3) as (client, _):
            for _ in range(6):
                where = await client.call(call("Where", filters=(only(f"{SERVICE}-1"),)))
                assert where == self.records[1].nodes[0].address
            with pytest.raises(MicroError) as raised:
                await client.call(call("Where", filters=(only("nobody"),)))
            assert raised.value.executed is Executed.NO

    @promise()
    async def test_the_selector_chooses_and_hears_how_each_attempt_ended(self) -> None:
        selector = Choosy()
        async with self.calling(nodes=3, selector=selector) as (client, _):
            for method in ("Echo", "Echo", "Taken"):
                with contextlib.suppress(MicroError):
                    await client.call(call(method))
        assert selector.heard == [("started", f"{SERVICE}-2"), ("finished", f"{SERVICE}-2")] * 3

    @promise()
    async def test_a_node_that_comes_is_called_and_one_that_goes_is_not(self) -> None:
        async with self.calling(nodes=2) as (client, _):
            first, second = (record.nodes[0].address for record in self.records)
            await self.registry.deregister(self.records[1])
            assert await called_in_the_end(client, {first}) == {first}
            await self.registry.register(self.records[1])
            assert await called_in_the_end(client, {first, second}) == {first, second}
            await self.registry.deregister(self.records[0])
            assert await called_in_the_end(client, {second}) == {second}

    # Another attempt

    @promise()
    async def test_what_a_handler_answered_is_never_tried_again(self) -> None:
        async with self.calling(nodes=2) as (client, work):
            with pytest.raises(MicroError):
                await client.call(call("Taken", idempotent=True, retries=3))
            assert work.taken_calls == 1

    @promise()
    async def test_a_timeout_is_for_all_attempts_together(self) -> None:
        async with self.calling(nodes=0, silent=3) as (client, _):
            begun = anyio.current_time()
            with pytest.raises(MicroError):
                await client.call(call("Echo", idempotent=True, retries=50, timeout=SOON))
            assert anyio.current_time() - begun < self.patience / 2

    @promise()
    async def test_no_retries_are_one_attempt(self) -> None:
        failed = 0
        async with self.calling(nodes=1, silent=1) as (client, work):
            for text in "abcd":
                try:
                    await client.call(call("Echo", text, idempotent=True, retries=0, timeout=SOON))
                except MicroError:
                    failed += 1
            assert failed == len(work.unanswered) > 0

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
    async def test_a_stream_that_breaks_off_is_an_error_behind_what_was_sent(self) -> None:
        async with self.calling() as (client, _):
            broken = await client.open(stream("Break"))
            await broken.send("a")
            assert [await broken.receive(), await broken.receive()] == ["a 0", "a 1"]
            with pytest.raises(Conflict, match="no more of a"):
                await broken.receive()
            await broken.aclose()

    @promise()
    async def test_leaving_a_stream_cancels_its_handler(self) -> None:
        async with self.calling() as (client, work):
            tail = await client.open(stream("Tail"))
            await tail.send("a")
            assert await tail.receive() == "a"
            await tail.aclose()
            await work.cancelled.wait()

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


async def called_in_the_end(client: Caller, expected: set[str]) -> set[str]:
    """Return the addresses that four calls in a row went to, once they are ``expected`` or a while has passed."""
    called: set[str] = set()
    for _ in range(20):
        called = {await client.call(call("Where")) for _ in range(4)}
        if called == expected:
            break
        await anyio.sleep(0.05)
    return called


def only(id: str) -> Filter:
    """Return a filter that one node passes."""

    def passed(records: Sequence[Record]) -> Sequence[Record]:
        return [
            Record(name=record.name, version=record.version, nodes=(node,))
            for record in records
            for node in record.nodes
            if node.id == id
        ]

    return passed


class Choosy(Selector):
    """Chooses the node with the highest id, and notes what it hears."""

    name = "choosy"
    feedback = True

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        return max(nodes, key=lambda node: node.id)

    def started(self, node: Node) -> None:
        self.heard.append(("started", node.id))

    def finished(self, node: Node, seconds: float, ok: bool) -> None:
        self.heard.append(("finished" if ok and seconds >= 0 else "failed", node.id))
