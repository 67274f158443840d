"""Calls against scripted nodes: attempts, retries, errors, and what a registry that is down means."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from inspect import iscoroutinefunction
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from micro_core import (
    SYNC,
    BadRequest,
    Call,
    CallOptions,
    Change,
    ChangeKind,
    Channel,
    Closed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Endpoint,
    Executed,
    Filter,
    Forbidden,
    Head,
    Message,
    MicroError,
    Node,
    NoNode,
    NotFound,
    ProtocolError,
    Record,
    Registry,
    RegistryError,
    Stream,
    Timeout,
    Transport,
    filters,
)
from micro_core._calling import discovery
from micro_core._wire.errors import error_to_wire
from micro_core.builtin.codec_bytes import BytesCodec
from micro_core.builtin.json.codec import JsonCodec
from micro_core.builtin.rpc.client import RpcClient
from micro_core.builtin.selectors.roundrobin import RoundRobinSelector
from micro_core.client import ClientDefaults
from micro_core.testing import world

pytestmark = pytest.mark.anyio

Step = Callable[["Attempt"], Any]


class Attempt:
    """One attempt as a node sees it."""

    def __init__(self, node: Node, headers: dict[bytes, bytes], body: bytes, seconds: float) -> None:
        self.node = node
        self.headers = headers
        self.body = body
        self.seconds = seconds
        """That it has until its deadline."""


class ScriptedTransport(Transport):
    """Its nodes do what the test says, one step for each attempt, whoever gets it; the last one stays."""

    name = "scripted"

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.attempts: list[Attempt] = []
        self.closed: list[str] = []

    def listen(self, *arguments: Any) -> Any:
        raise NotImplementedError

    def connect(self, node: Node) -> Channel:
        return ScriptedChannel(self, node)

    @property
    def addresses(self) -> list[str]:
        return [attempt.node.address for attempt in self.attempts]


class ScriptedChannel(Channel):
    def __init__(self, transport: ScriptedTransport, node: Node) -> None:
        self._transport = transport
        self._node = node

    async def call(self, head: Head, id: int, headers: dict[bytes, bytes], body: bytes, deadline: float) -> Message:
        attempt = Attempt(self._node, {**head.headers, **headers}, body, deadline - anyio.current_time())
        self._transport.attempts.append(attempt)
        steps = self._transport.steps
        step = steps.pop(0) if len(steps) > 1 else steps[0]
        with anyio.CancelScope(deadline=deadline):
            reply: Message = await step(attempt) if iscoroutinefunction(step) else step(attempt)
            return reply
        raise Timeout("no answer before the deadline", executed=Executed.MAYBE)

    async def open_stream(self, deadline: float) -> Stream:
        self._transport.attempts.append(Attempt(self._node, {}, b"", deadline - anyio.current_time()))
        step = self._transport.steps.pop(0) if len(self._transport.steps) > 1 else self._transport.steps[0]
        stream: Stream = step(self._transport.attempts[-1])
        return stream

    async def aclose(self) -> None:
        self._transport.closed.append(self._node.address)


def answers(attempt: Attempt) -> Message:
    return Message({b"Content-Type": b"application/json"}, b'"hello"')


def fails(error: Callable[[], MicroError]) -> Step:
    def step(attempt: Attempt) -> Message:
        raise error()

    return step


def refuses(attempt: Attempt) -> Message:
    raise ConnectFailed("connection refused", node=attempt.node.address)


def resets(attempt: Attempt) -> Message:
    raise ConnectionLost("connection reset", node=attempt.node.address)


def says(error: MicroError) -> Step:
    return lambda attempt: Message({b"Micro-Error": error_to_wire(error, "greeter").encode()})


async def freezes(attempt: Attempt) -> Message:
    await anyio.sleep_forever()
    raise AssertionError


class ScriptedRegistry(Registry):
    """Has what the test says; ``down`` is the error that it raises instead. A ``silent`` one has not told all yet."""

    name = "scripted"

    def __init__(self, *records: Record) -> None:
        self.records = list(records)
        self.down: Exception | None = None
        self.watches = 0
        self.silent = False
        self._changed = anyio.Event()

    async def register(self, record: Record, *, ttl: float = 60.0) -> None: ...

    async def deregister(self, record: Record) -> None: ...

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watch(name)

    @asynccontextmanager
    async def _watch(self, name: str | None) -> AsyncIterator[AsyncIterator[Change]]:
        self.watches += 1
        if self.down:
            raise self.down
        async with aclosing(self._tell(name)) as changes:
            yield changes

    async def _tell(self, name: str | None) -> AsyncGenerator[Change]:
        told: list[Record] = []
        synced = False
        while True:
            changed = self._changed
            for record in self.records:
                if record not in told and name in (None, record.name):
                    told.append(record)
                    yield Change(kind=ChangeKind.CREATE, record=record)
            if not synced and not self.silent:
                synced = True
                yield SYNC
            await changed.wait()
            if self.down:
                raise self.down

    def change(self) -> None:
        """Have watches look again."""
        self._changed.set()
        self._changed = anyio.Event()

    async def aclose(self) -> None: ...


def nodes(number: int, version: str = "1", *, idempotent: bool = True) -> Record:
    return Record(
        name="greeter",
        version=version,
        nodes=tuple(
            Node(id=f"{version}-{i}", address=f"127.0.0.1:{i + 1}", metadata={"protocol": "mucp", "micro": "1"})
            for i in range(number)
        ),
        endpoints=(
            Endpoint(name="Greeter.Hello", metadata={"idempotent": "true"} if idempotent else {}),
            Endpoint(name="Greeter.Charge"),
        ),
    )


@asynccontextmanager
async def calling(registry: Registry, transport: Transport, **settings: Any) -> AsyncIterator[RpcClient]:
    settings.setdefault("selector", RoundRobinSelector())
    codecs = [JsonCodec(), BytesCodec()]
    client = RpcClient(registry=registry, transport=transport, codecs=codecs, **settings)
    async with client:
        yield client


def hello(endpoint: str = "Hello", request: Any = "John", **options: Any) -> Call:
    return Call("greeter", f"Greeter.{endpoint}", request, str, CallOptions(**options))


async def test_a_refused_connect_is_retried_at_another_node_even_if_not_idempotent() -> None:
    transport = ScriptedTransport(refuses, answers)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        assert await client.call(hello("Charge")) == "hello"
    assert len(set(transport.addresses)) == 2


async def test_what_was_not_executed_is_tried_at_every_node() -> None:
    transport = ScriptedTransport(refuses, refuses, refuses, answers)
    async with calling(ScriptedRegistry(nodes(4)), transport) as client:
        assert await client.call(hello("Charge")) == "hello"
    assert len(set(transport.addresses)) == 4


async def test_a_lost_call_is_not_retried_where_it_may_have_been_executed() -> None:
    transport = ScriptedTransport(resets)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        with pytest.raises(ConnectionLost, match=r"greeter Greeter.Charge at 127.0.0.1:\d \(0.0\d s\)") as raised:
            await client.call(hello("Charge"))
    error = raised.value
    assert (error.executed, error.attempts, error.service) == ("maybe", 1, "greeter")
    assert error.node == transport.addresses[0]


async def test_a_lost_call_is_retried_at_another_node_where_the_endpoint_is_idempotent() -> None:
    transport = ScriptedTransport(resets, answers)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        assert await client.call(hello()) == "hello"
    assert len(set(transport.addresses)) == 2


@pytest.mark.parametrize(("endpoint", "idempotent", "attempts"), [("Charge", True, 2), ("Hello", False, 1)])
async def test_the_call_s_own_word_on_idempotence_goes_before_the_registry_s(
    endpoint: str, idempotent: bool, attempts: int
) -> None:
    transport = ScriptedTransport(resets)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        with pytest.raises(ConnectionLost):
            await client.call(hello(endpoint, idempotent=idempotent))
    assert len(transport.attempts) == attempts


@pytest.mark.parametrize("idempotent", [True, False])
async def test_an_error_of_the_handler_is_never_retried(idempotent: bool) -> None:
    transport = ScriptedTransport(says(Forbidden("not you", id="guard")))
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        with pytest.raises(Forbidden, match=r"^not you$") as raised:
            await client.call(hello(idempotent=idempotent))
    error = raised.value
    assert (error.executed, error.attempts, error.id, error.node) == ("yes", 1, "guard", transport.addresses[0])


async def test_a_server_that_is_stopping_sends_its_callers_elsewhere() -> None:
    transport = ScriptedTransport(says(Timeout("stopping", executed=Executed.NO)), answers)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        assert await client.call(hello("Charge")) == "hello"
    assert len(set(transport.addresses)) == 2


async def test_an_endpoint_that_one_node_lacks_is_looked_for_at_another() -> None:
    transport = ScriptedTransport(says(NotFound("no such endpoint", executed=Executed.NO)), answers)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        assert await client.call(hello("Charge")) == "hello"


async def test_a_body_that_does_not_fit_is_not_sent_again() -> None:
    transport = ScriptedTransport(says(BadRequest("field 'name'", executed=Executed.NO)))
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        with pytest.raises(BadRequest):
            await client.call(hello())
    assert len(transport.attempts) == 1


async def test_retries_0_means_one_attempt() -> None:
    transport = ScriptedTransport(refuses)
    async with calling(ScriptedRegistry(nodes(3)), transport) as client:
        with pytest.raises(ConnectFailed):
            await client.call(hello(retries=0))
    assert len(transport.attempts) == 1


async def test_more_retries_may_be_asked_for_and_the_error_tells_all_of_them() -> None:
    transport = ScriptedTransport(resets)
    async with calling(ScriptedRegistry(nodes(2)), transport, random=lambda: 0.0) as client:
        with pytest.raises(ConnectionLost, match=r"failed after \d\.\d\d s and 4 attempts: 127.*; 127.*; 127.*; 127"):
            await client.call(hello(retries=3))
    assert transport.addresses[0] != transport.addresses[1]


async def test_maybe_executed_stays_so_when_a_later_attempt_was_not() -> None:
    transport = ScriptedTransport(resets, refuses)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        with pytest.raises(ConnectFailed) as raised:
            await client.call(hello())
    assert raised.value.executed == "maybe"
    assert raised.value.attempts == 2


async def test_a_frozen_node_costs_one_attempt_s_time() -> None:
    transport = ScriptedTransport(freezes, answers)
    async with calling(ScriptedRegistry(nodes(2)), transport, attempt_timeout=0.05) as client:
        assert await client.call(hello()) == "hello"
    first, second = (attempt.seconds for attempt in transport.attempts)
    assert first < 0.06
    assert 4 < second <= 5


BOUNDS = [(3, 5), (3, 5), (9, math.inf), (0, 0.5), (3, 5)]
"""Less than an attempt was allowed, for the machine may be busy, and more than another limit would have left."""


async def test_an_attempt_gets_all_the_time_where_no_other_is_allowed() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        await client.call(hello("Charge"))
        await client.call(hello(retries=0))
        await client.call(hello(timeout=math.inf, retries=0))
        await client.call(hello(attempt_timeout=0.5))
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        await client.call(hello())
    given = [each.seconds for each in transport.attempts]
    assert all(least < seconds <= most for seconds, (least, most) in zip(given, BOUNDS, strict=True)), given


async def test_the_timeout_goes_out_in_nanoseconds_and_is_left_out_where_there_is_none() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        await client.call(hello(timeout=2))
        await client.call(hello(timeout=math.inf))
    with_timeout, without = (attempt.headers for attempt in transport.attempts)
    assert 1_000_000_000 < int(with_timeout[b"Timeout"]) <= 2_000_000_000
    assert b"Timeout" not in without


async def test_the_caller_s_scope_bounds_a_call() -> None:
    transport = ScriptedTransport(freezes)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        with anyio.move_on_after(0.05) as scope:
            await client.call(hello())
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.05):
            await client.call(hello())
    assert all(attempt.seconds < 0.06 for attempt in transport.attempts)


@pytest.mark.parametrize("timeout", [None, 1.0])
async def test_a_call_in_a_scope_that_is_cancelled_already_is_cancelled(timeout: float | None) -> None:
    transport = ScriptedTransport(freezes)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.call(hello(timeout=timeout))
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0):
            await client.call(hello(timeout=timeout))
        with pytest.RaisesGroup(ZeroDivisionError):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(calls_at_last, client)
                await anyio.lowlevel.checkpoint()
                raise ZeroDivisionError


async def calls_at_last(client: RpcClient) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        await client.call(hello())


async def test_a_timeout_names_where_and_for_how_long() -> None:
    transport = ScriptedTransport(freezes)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        with pytest.raises(Timeout, match=r"greeter Greeter.Hello at 127.0.0.1:1 \(0\.0\d s\): no answer") as raised:
            await client.call(hello(timeout=0.05))
    assert raised.value.executed == "maybe"


async def test_a_node_that_was_left_out_is_probed_and_no_call_is_risked_for_it() -> None:
    back = False

    def answer(attempt: Attempt) -> Message:
        return answers(attempt) if back or attempt.node.id == "1-0" else refuses(attempt)

    transport = ScriptedTransport(answer)
    async with calling(ScriptedRegistry(nodes(2)), transport, random=lambda: 0.0) as client:
        for _ in range(2):
            await client.call(hello("Charge"))
        for answers_again in (False, True):
            back = answers_again
            await anyio.sleep(0.6)
            transport.attempts.clear()
            await client.call(hello("Charge"))
            await anyio.wait_all_tasks_blocked()
            asked = {attempt.headers[b"Micro-Endpoint"]: attempt.node.id for attempt in transport.attempts}
            assert asked == {b"Greeter.Charge": "1-0", b"Debug.Health": "1-1"}
        transport.attempts.clear()
        for _ in range(4):
            await client.call(hello("Charge"))
    assert {attempt.node.id for attempt in transport.attempts} == {"1-0", "1-1"}


async def test_what_nobody_listens_for_is_free_however_often_it_happens() -> None:
    def answer(attempt: Attempt) -> Message:
        return answers(attempt) if attempt.node.id == "1-9" else refuses(attempt)

    transport = ScriptedTransport(answer)
    async with calling(ScriptedRegistry(nodes(10)), transport, random=lambda: 0.0) as client:
        client._budget.tokens = 0.0
        for _ in range(300):
            assert await client.call(hello("Charge")) == "hello"
    assert len(transport.attempts) < 1.2 * 300


async def test_a_channel_that_closes_before_a_call_is_sent_is_left_for_another_node() -> None:
    transport = ScriptedTransport(fails(lambda: Closed("the channel to it is closed")), answers)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        assert await client.call(hello("Charge")) == "hello"


async def test_a_lone_node_that_is_stopping_is_asked_again_on_a_new_connection() -> None:
    transport = ScriptedTransport(says(Timeout("stopping", executed=Executed.NO)), answers)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        assert await client.call(hello("Charge")) == "hello"
        await anyio.wait_all_tasks_blocked()
        assert transport.closed == ["127.0.0.1:1"]


async def test_an_attempt_gets_its_share_of_a_short_time_and_an_unanswered_one_counts() -> None:
    async def some_freeze(attempt: Attempt) -> Message:
        return await freezes(attempt) if attempt.node.id == "1-0" else answers(attempt)

    transport = ScriptedTransport(some_freeze)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        for _ in range(6):
            assert await client.call(hello(timeout=0.5)) == "hello"
        slow = [attempt.seconds for attempt in transport.attempts if attempt.node.id == "1-0"]
        assert len(slow) == 2
        assert all(0.2 < seconds <= 0.25 for seconds in slow)


async def test_an_attempt_is_not_shortened_for_a_retry_that_the_budget_refuses() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        client._budget.tokens = 1.0
        await client.call(hello())
        client._budget.tokens = 0.0
        await client.call(hello())
    first, second = (attempt.seconds for attempt in transport.attempts)
    assert first <= 1
    assert second > 3


async def test_the_token_of_a_retry_that_is_not_needed_is_given_back() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        for _ in range(200):
            await client.call(hello())
        assert client._budget.tokens == 100
    assert max(attempt.seconds for attempt in transport.attempts) <= 1


async def test_an_endpoint_that_is_known_to_be_slow_gets_the_time_it_takes() -> None:
    async def slow(attempt: Attempt) -> Message:
        await anyio.sleep(0.3)
        return answers(attempt)

    transport = ScriptedTransport(slow)
    async with calling(ScriptedRegistry(nodes(2)), transport, attempt_timeout=0.1) as client:
        for _ in range(4):
            assert await client.call(hello()) == "hello"
    first, second, *others = (attempt.seconds for attempt in transport.attempts)
    assert first < 0.1001 < 4 < second  # a difference of two clocks' readings is not exact
    assert len(others) == 3
    assert all(0.4 < seconds < 3 for seconds in others)


async def test_a_call_can_wait_for_the_first_node_as_long_as_its_deadline_allows() -> None:
    registry = ScriptedRegistry()
    async with calling(registry, ScriptedTransport(answers), lookup_timeout=0.01) as client:
        with pytest.raises(NoNode):
            await client.call(hello())
        with pytest.raises(Timeout, match="named no node of 'greeter'"):
            await client.call(hello(wait_for_ready=True, timeout=0.05))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, hello(wait_for_ready=True))
            await anyio.sleep(0.1)
            registry.records.append(nodes(1))
            registry.change()


async def test_a_call_that_waits_for_a_node_does_not_mind_a_registry_that_is_down() -> None:
    registry = ScriptedRegistry(nodes(1))
    registry.down = RegistryError("connection refused")
    async with calling(registry, ScriptedTransport(answers)) as client:
        with pytest.raises(RegistryError):
            await client.call(hello())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, hello(wait_for_ready=True))
            await anyio.sleep(0.05)
            registry.down = None


async def test_a_hedged_call_takes_the_first_answer_and_cancels_the_other() -> None:
    cancelled: list[str] = []

    async def some_freeze(attempt: Attempt) -> Message:
        if attempt.node.id != "1-0":
            return answers(attempt)
        try:
            return await freezes(attempt)
        finally:
            cancelled.append(attempt.node.id)

    transport = ScriptedTransport(some_freeze)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        for _ in range(10):
            with anyio.fail_after(3):
                assert await client.call(hello(hedge_after=0.01, retries=0)) == "hello"
    assert cancelled == ["1-0", "1-0"]  # two in a row leave it out


async def test_a_call_is_hedged_only_where_it_is_slow_idempotent_and_within_the_budget() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        await client.call(hello(hedge_after=0.5))
    assert len(transport.attempts) == 1
    frozen = ScriptedTransport(freezes)
    async with calling(ScriptedRegistry(nodes(2)), frozen) as client:
        for endpoint, tokens in (("Charge", 100.0), ("Hello", -1.0)):
            client._budget.tokens = tokens
            with pytest.raises(Timeout):
                await client.call(hello(endpoint, hedge_after=0.01, timeout=0.05, retries=0))
    assert len(frozen.attempts) == 2


async def test_a_hedged_call_whose_attempts_all_fail_raises_what_the_first_said_and_may_have_been_executed() -> None:
    async def late(attempt: Attempt) -> Message:
        await anyio.sleep(0.05)
        raise ConnectFailed("refused at last") if attempt.node.id == first else ConnectionLost("reset")

    transport = ScriptedTransport(late)
    first = "1-0"
    selector = ListeningSelector()
    async with calling(ScriptedRegistry(nodes(2)), transport, selector=selector) as client:
        with pytest.raises(ConnectFailed, match="refused at last") as raised:
            await client.call(hello(hedge_after=0.01, retries=0))
    assert (raised.value.executed, len(transport.attempts), selector.under_way) == ("maybe", 2, 0)


async def test_a_stream_that_is_not_answered_in_time_counts_against_its_node() -> None:
    class Silent(ScriptedStream):
        async def receive(self) -> Message:
            await anyio.sleep_forever()
            raise AssertionError

    transport = ScriptedTransport(lambda attempt: Silent())
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        for _ in range(3):
            call = Call(
                "greeter", "Greeter.Charge", None, str, CallOptions(answer_timeout=0.02, filters=(only("1-0"),)),
                streaming=True,
            )  # fmt: skip
            stream = await client.open(call)
            with pytest.raises(Timeout, match="the stream had no answer in time") as raised:
                await stream.receive()
            await stream.aclose()
        assert "1 ejected" in repr(client._discovery.known["greeter"])
    assert raised.value.executed == "maybe"


async def test_the_opening_of_a_stream_has_a_deadline_of_its_own() -> None:
    class Stuck(ScriptedStream):
        async def send(self, head: Head, headers: dict[bytes, bytes], body: bytes) -> None:
            await anyio.sleep_forever()

    transport = ScriptedTransport(lambda attempt: Stuck())
    call = Call("greeter", "Greeter.Charge", None, str, CallOptions(open_timeout=0.05), streaming=True)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        with pytest.raises(Timeout, match="took no stream in time"):
            await client.open(call)


async def test_a_node_that_answers_others_is_not_blamed_for_an_impatient_caller() -> None:
    async def answer(attempt: Attempt) -> Message:
        return await freezes(attempt) if attempt.headers[b"Micro-Endpoint"] == b"Greeter.Charge" else answers(attempt)

    transport = ScriptedTransport(answer)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:

        async def impatient() -> None:
            for _ in range(6):
                with pytest.raises(Timeout):
                    await client.call(hello("Charge", timeout=0.05))
            done.cancel()

        async with anyio.create_task_group() as tasks:
            done = tasks.cancel_scope
            tasks.start_soon(impatient)
            while True:
                await client.call(hello())
                await anyio.sleep(0.005)
        assert "0 ejected" in repr(client._discovery.known["greeter"])


@pytest.mark.parametrize("says", [b"text/html", b"text/plain; charset=utf-8"])
async def test_a_reply_that_no_service_gives_is_a_broken_node_s(says: bytes) -> None:
    def answer(attempt: Attempt) -> Message:
        return Message({b"Content-Type": says}, b"<html>") if attempt.node.id == "1-0" else answers(attempt)

    transport = ScriptedTransport(answer)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        for _ in range(20):
            assert await client.call(hello()) == "hello"
        assert transport.addresses.count("127.0.0.1:1") == 2
        with pytest.raises(ProtocolError, match=r"answered 'text/.*', which is no reply of a service") as raised:
            await client.call(hello("Charge", filters=(only("1-0"),)))
    assert raised.value.executed is Executed.MAYBE


def only(id: str) -> Filter:
    def keep(records: Sequence[Record]) -> Sequence[Record]:
        return [replace(each, nodes=tuple(node for node in each.nodes if node.id == id)) for each in records]

    return keep


async def test_the_retry_budget_bounds_all_retries_together() -> None:
    transport = ScriptedTransport(resets)
    async with calling(ScriptedRegistry(nodes(2)), transport, random=lambda: 0.0) as client:
        for _ in range(200):
            with pytest.raises(ConnectionLost):
                await client.call(hello())
    assert 300 <= len(transport.attempts) <= 200 + 100 + 0.2 * 200 + 40


async def test_filters_choose_among_the_nodes() -> None:
    transport = ScriptedTransport(answers)
    old, new = nodes(1, "1"), nodes(2, "2")
    async with calling(ScriptedRegistry(old, new), transport) as client:
        for _ in range(3):
            await client.call(hello(filters=(filters.version("1"),)))
        assert {attempt.node.id for attempt in transport.attempts} == {"1-0"}
        with pytest.raises(NoNode, match=r"none of the 3 nodes of 'greeter' fits the call's filters: version\('3'\)"):
            await client.call(hello(filters=(filters.version("3"),)))


async def test_addresses_that_changed_hands_cost_no_retry() -> None:
    refusal = b'{"id":"accounts","code":404,"detail":"here is accounts","status":"Not Found","executed":"no"}'

    def answer(attempt: Attempt) -> Message:
        return answers(attempt) if attempt.node.id == "1-4" else Message({b"Micro-Error": refusal}, b"")

    transport = ScriptedTransport(answer)
    async with calling(ScriptedRegistry(nodes(5)), transport) as client:
        for _ in range(20):
            assert await client.call(hello()) == "hello"
    elsewhere = [attempt.node.id for attempt in transport.attempts if attempt.node.id != "1-4"]
    assert len(elsewhere) == len(set(elsewhere)) == 4


async def test_a_filter_is_asked_for_every_call_and_may_stand_in_a_list() -> None:
    transport = ScriptedTransport(answers)
    turns = itertools.cycle(["1", "2"])
    async with calling(ScriptedRegistry(nodes(1, "1"), nodes(1, "2")), transport) as client:
        for _ in range(6):
            await client.call(hello(filters=[lambda records: filters.version(next(turns))(records)]))
    assert [attempt.node.id for attempt in transport.attempts] == ["1-0", "2-0"] * 3


async def test_a_filter_waits_for_all_nodes_and_a_plain_call_for_the_first() -> None:
    transport, registry = ScriptedTransport(answers), ScriptedRegistry(nodes(1, "1"))
    registry.silent = True
    async with calling(registry, transport) as client:
        await client.call(hello())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, hello(filters=[filters.version("2")]))
            await anyio.wait_all_tasks_blocked()
            assert len(transport.attempts) == 1
            registry.records.append(nodes(1, "2"))
            registry.silent = False
            registry.change()
    assert [attempt.node.id for attempt in transport.attempts] == ["1-0", "2-0"]


async def test_a_service_without_a_name_is_asked_for_nowhere() -> None:
    registry = ScriptedRegistry(nodes(1))
    async with calling(registry, ScriptedTransport(answers)) as client:
        with pytest.raises(BadRequest, match="a call needs the name of a service"):
            await client.call(Call("", "Greeter.Hello", "John", str))
    assert registry.watches == 0


@pytest.mark.parametrize("seconds", [-1, math.nan, 1e300, "1", True])
def test_a_timeout_that_no_header_carries_is_refused(seconds: Any) -> None:
    with pytest.raises(BadRequest, match=r"timeout=.* is not valid: seconds as a number"):
        CallOptions(timeout=seconds)


async def test_an_address_is_called_without_a_registry() -> None:
    transport, registry = ScriptedTransport(answers), ScriptedRegistry()
    async with calling(registry, transport) as client:
        assert await client.call(hello(address="10.0.0.5:80")) == "hello"
    assert transport.addresses == ["10.0.0.5:80"]
    assert registry.watches == 0


async def test_the_content_type_follows_the_request_or_the_option() -> None:
    transport = ScriptedTransport(lambda attempt: Message({}, attempt.body))
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        assert await client.call(Call("greeter", "Greeter.Hello", b"raw", bytes)) == b"raw"
        assert await client.call(hello(content_type="application/json")) == "John"
        with pytest.raises(BadRequest, match="bytes travels as: application/octet-stream"):
            await client.call(hello(request=b"raw", content_type="application/json"))
        with pytest.raises(BadRequest, match="unsupported content type 'text/x'"):
            await client.call(hello(content_type="text/x"))
    assert [attempt.headers[b"Content-Type"] for attempt in transport.attempts] == [
        b"application/octet-stream",
        b"application/json",
    ]


async def test_metadata_is_sent_and_cannot_replace_what_the_client_says() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(1)), transport) as client:
        await client.call(hello(metadata={"x-tenant": "acme", "Authorization": "Bearer x"}))
        for name in ("timeout", "Micro-Endpoint", "content-type", "Micro-Id"):
            with pytest.raises(BadRequest, match=f"the header '{name}' is set by the client itself"):
                await client.call(hello(metadata={name: "1"}))
    (attempt,) = transport.attempts
    assert attempt.headers[b"X-Tenant"] == b"acme"
    assert attempt.headers[b"Authorization"] == b"Bearer x"


async def test_the_settings_decide_what_the_options_leave_open() -> None:
    transport = ScriptedTransport(resets)
    defaults = ClientDefaults(timeout=2.5, retries=0, service="gateway", proxy_address="10.0.0.9:80")
    async with calling(ScriptedRegistry(), transport, defaults=defaults) as client:
        with pytest.raises(ConnectionLost):
            await client.call(hello(idempotent=True))
    (attempt,) = transport.attempts
    assert attempt.node.address == "10.0.0.9:80"
    assert 2 < attempt.seconds <= 2.5
    assert attempt.headers[b"Micro-From-Service"] == b"gateway"
    assert attempt.headers[b"Micro-Service"] == b"greeter"


async def test_an_empty_answer_is_no_node_and_names_what_there_is() -> None:
    registry = ScriptedRegistry(nodes(1))
    async with calling(registry, ScriptedTransport(answers), lookup_timeout=0.05) as client:
        with pytest.raises(NoNode) as raised:
            await client.call(Call("gretter", "Greeter.Hello", "John", str))
    assert raised.value.detail == "no node of 'gretter' in registry scripted after 0.1 s; known services: greeter" or (
        raised.value.detail == "no node of 'gretter' in registry scripted after 0.0 s; known services: greeter"
    )
    assert (raised.value.executed, raised.value.service) == ("no", "gretter")


async def test_a_registry_that_is_down_is_no_answer() -> None:
    registry = ScriptedRegistry()
    registry.down = RegistryError("connection refused")
    async with calling(registry, ScriptedTransport(answers)) as client:
        with pytest.raises(
            RegistryError, match=r"registry scripted gave no answer about 'greeter': connection refused"
        ):
            await client.call(hello())


async def test_a_wrong_password_is_told_as_what_waiting_does_not_mend() -> None:
    registry = ScriptedRegistry()
    registry.down = RegistryError("wrong password", permanent=True)
    async with calling(registry, ScriptedTransport(answers)) as client:
        with pytest.raises(RegistryError, match="wrong password") as raised:
            await client.call(hello())
    assert raised.value.permanent


@pytest.mark.parametrize("of_call", [{"timeout": 0.3}, {"timeout": 0.3, "filters": [filters.version("1")]}])
async def test_a_registry_that_hangs_is_no_answer_and_never_an_empty_one(of_call: dict[str, Any]) -> None:
    registry = ScriptedRegistry(*[nodes(1)] * ("filters" in of_call))
    registry.silent = True
    async with calling(registry, ScriptedTransport(answers), lookup_timeout=0.1) as client:
        with pytest.raises(RegistryError, match=r"registry scripted has not .* about 'greeter' in \d\.\d s"):
            await client.call(hello(**of_call))


async def test_a_registry_that_hangs_bounds_a_call_without_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "ANSWER_SECONDS", 0.1)
    registry = ScriptedRegistry()
    registry.silent = True
    async with calling(registry, ScriptedTransport(answers), lookup_timeout=0.05) as client:
        with pytest.raises(RegistryError, match=r"registry scripted has not answered about 'greeter' in \d\.\d s"):
            await client.call(hello(timeout=math.inf))


async def test_a_slow_registry_is_waited_for_beyond_the_time_of_a_look_up() -> None:
    registry = ScriptedRegistry(nodes(1))
    records, registry.records, registry.silent = registry.records, [], True
    async with calling(registry, ScriptedTransport(answers), lookup_timeout=0.01) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.call, hello())
            await anyio.sleep(0.05)
            registry.records = records
            registry.change()


async def test_a_registry_that_goes_down_leaves_the_last_list() -> None:
    registry = ScriptedRegistry(nodes(1))
    async with calling(registry, ScriptedTransport(answers)) as client:
        await client.call(hello())
        registry.down = RegistryError("connection refused")
        registry.change()
        await anyio.wait_all_tasks_blocked()
        assert await client.call(hello()) == "hello"
        assert registry.watches == 1


async def test_a_registry_that_comes_back_is_asked_again() -> None:
    registry = ScriptedRegistry(nodes(1))
    registry.down = RegistryError("connection refused")
    async with calling(registry, ScriptedTransport(answers)) as client:
        with pytest.raises(RegistryError):
            await client.call(hello())
        registry.down = None
        await anyio.sleep(0.2)
        assert await client.call(hello()) == "hello"


async def test_a_process_that_is_held_up_finds_its_nodes_all_the_same() -> None:
    async def hold_up() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 - longer than the look-up may take

    for _ in range(10):  # trio runs what is ready in any order
        async with calling(ScriptedRegistry(nodes(1)), ScriptedTransport(answers), lookup_timeout=0.05) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call, hello())
                tasks.start_soon(hold_up)


async def test_services_that_are_not_there_are_not_followed_for_ever() -> None:
    async with calling(ScriptedRegistry(nodes(1)), ScriptedTransport(answers), lookup_timeout=0.001) as client:
        for number in range(20):
            with pytest.raises(NoNode):
                await client.call(Call(f"no-{number}", "Greeter.Hello", "John", str))
        with anyio.fail_after(10):
            while client._discovery._followed:  # noqa: ASYNC110 - a late answer is given its time
                await anyio.sleep(0.001)


async def test_a_client_that_is_left_closes_its_channels_and_makes_no_more_calls() -> None:
    transport = ScriptedTransport(answers)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        await client.call(hello())
        assert repr(client) == "<RpcClient open, 1 services known>"
    assert sorted(transport.closed) == ["127.0.0.1:1", "127.0.0.1:2"]
    assert repr(client) == "<RpcClient closed, 0 services known>"
    with pytest.raises(Closed, match="async with"):
        await client.call(hello())


async def test_an_endpoint_s_name_has_one_dot() -> None:
    async with calling(ScriptedRegistry(nodes(1)), ScriptedTransport(answers)) as client:
        with pytest.raises(BadRequest, match=r"endpoint 'Hello' is not of the form 'Type.Method'"):
            await client.call(Call("greeter", "Hello", "John", str))


async def test_opening_a_stream_is_tried_again_where_nothing_was_sent() -> None:
    stream = ScriptedStream()
    transport = ScriptedTransport(refuses, lambda attempt: stream)
    async with calling(ScriptedRegistry(nodes(2)), transport) as client:
        opened = await client.open(Call("greeter", "Greeter.Charge", None, str, streaming=True))
        await opened.aclose()
    assert len(set(transport.addresses)) == 2
    assert stream.sent[0][b"Micro-Stream"] == stream.sent[0][b"Micro-Id"]
    assert b"Timeout" not in stream.sent[0]


async def test_errors_of_a_stream_say_where() -> None:
    stream = ScriptedStream()
    async with calling(ScriptedRegistry(nodes(1)), ScriptedTransport(lambda attempt: stream)) as client:
        opened = await client.open(Call("greeter", "Greeter.Charge", None, str, streaming=True))
        assert repr(opened) == "<RpcStream greeter Greeter.Charge at 127.0.0.1:1, open>"
        with pytest.raises(ConnectionLost) as raised:
            await opened.receive()
        await opened.aclose()
        with pytest.raises(Closed):
            await opened.receive()
        with pytest.raises(Closed):
            await opened.send("more")
    assert (raised.value.service, raised.value.node, raised.value.attempts) == ("greeter", "127.0.0.1:1", 1)


class ListeningSelector(RoundRobinSelector):
    """Takes note of what it is told."""

    feedback = True

    def __init__(self) -> None:
        super().__init__(start=lambda count: 0)
        self.under_way = 0
        self.ends: list[bool] = []

    def started(self, node: Node) -> None:
        self.under_way += 1

    def finished(self, node: Node, seconds: float, ok: bool) -> None:
        self.under_way -= 1
        self.ends.append(ok)


async def test_selectors_hear_of_a_stream_s_end_when_it_ends_and_only_once() -> None:
    selector, transport = ListeningSelector(), ScriptedTransport(lambda attempt: ScriptedStream())
    async with calling(ScriptedRegistry(nodes(1)), transport, selector=selector) as client:
        lost = await client.open(Call("greeter", "Greeter.Charge", None, str, streaming=True))
        left = await client.open(Call("greeter", "Greeter.Charge", None, str, streaming=True))
        assert (selector.under_way, selector.ends) == (2, [])
        with pytest.raises(ConnectionLost):
            await lost.receive()
        assert (selector.under_way, selector.ends) == (1, [False])
        await left.aclose()
        await lost.aclose()
    assert (selector.under_way, selector.ends) == (0, [False, True])


async def test_a_stream_that_cannot_be_opened_is_an_attempt_without_an_answer() -> None:
    selector, transport = ListeningSelector(), ScriptedTransport(refuses, lambda attempt: ScriptedStream())
    async with calling(ScriptedRegistry(nodes(2)), transport, selector=selector) as client:
        await (await client.open(Call("greeter", "Greeter.Charge", None, str, streaming=True))).aclose()
    assert (selector.under_way, selector.ends) == (0, [False, True])


async def test_a_call_is_not_changed_on_its_way() -> None:
    transport = ScriptedTransport(refuses, answers)
    call = hello("Charge", timeout=2, metadata={"X-Tenant": "acme"})
    before = {name: getattr(call, name) for name in Call.__slots__}

    async def sign(attempt: Any, attempt_next: Any) -> Any:
        attempt.metadata["X-Signature"] = str(attempt.number)
        return await attempt_next(attempt)

    async with calling(ScriptedRegistry(nodes(2)), transport, middleware=[sign]) as client:
        await client.call(call)
        assert {name: getattr(call, name) for name in Call.__slots__} == before
        assert call.metadata == {"X-Tenant": "acme"}
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(client.call, call)
    assert transport.attempts[1].headers[b"X-Signature"] == b"1"
    assert len(transport.attempts) == 7


class ScriptedStream(Stream):
    def __init__(self) -> None:
        self.sent: list[dict[bytes, bytes]] = []

    async def send(self, head: Head, headers: dict[bytes, bytes], body: bytes) -> None:
        self.sent.append({**head.headers, **headers})

    async def receive(self) -> Message:
        raise ConnectionLost("gone")

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", math.nan),
        ("timeout", "3s"),
        ("timeout", True),
        ("attempt_timeout", -1.0),
        ("retries", -1),
        ("retries", 1.5),
        ("metadata", {"X": 1}),
        ("filters", filters.version("1")),
        ("filters", ["v1"]),
        ("errors", NotFound),
        ("errors", [ValueError]),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_anything_is_sent(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=name) as raised:
        CallOptions(**{name: value})
    assert raised.value.executed is Executed.NO


def test_filters_and_errors_may_be_any_sequence() -> None:
    keep = filters.version("1")
    options = CallOptions(filters=[keep], errors=[NotFound])  # type: ignore[arg-type]
    assert (options.filters, options.errors) == ((keep,), (NotFound,))
    assert CallOptions(filters=[], errors=[]) == CallOptions()  # type: ignore[arg-type]


async def test_a_misspelt_option_is_told_with_what_was_meant() -> None:
    async with world() as here, here.client() as client:
        with pytest.raises(ConfigError, match="a call has no option 'timout'; did you mean 'timeout'"):
            await client.call("greeter", "Greeter.Hello", None, str, timout=3)  # type: ignore[call-overload]
        with pytest.raises(ConfigError, match="no option 'zzz'; it has: timeout, attempt_timeout"):
            client.stream("greeter", "Greeter.Hello", str, zzz=3)  # type: ignore[call-overload]
