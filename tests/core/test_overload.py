"""What a server does with more than it can do: what nobody waits for is not begun, and the newest is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from micro_core import Context, Executed, Handler, HandlerKind, Limits, Unavailable
from micro_core._runtime import asyncio_workers
from micro_core._runtime.asyncio_workers import KEPT_WORKERS, AsyncioWorkers
from micro_core._runtime.runner import open_runner
from micro_core._wire.codec_set import CodecSet
from micro_core.builtin.json.codec import JsonCodec
from micro_core.builtin.rpc.server import Dispatcher
from micro_core.testing import world
from micro_core.transport import Request

pytestmark = pytest.mark.anyio

on_asyncio = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": uvloop}), id="uvloop" if uvloop else "asyncio")
        for uvloop in (False, True)
    ],
)


class Arrived(Request):
    """A request as a transport hands it on, which keeps its answer."""

    def __init__(self, timeout: float | None = None) -> None:
        headers = {b"Micro-Endpoint": b"Test.Work", b"Content-Type": b"application/json", b"Micro-Service": b"test"}
        if timeout is not None:
            headers[b"Timeout"] = b"%d" % int(timeout * 1e9)
        super().__init__(headers, b"null", local="127.0.0.1:1", remote="127.0.0.1:2")
        self.answers: list[bytes] = []

    def respond(self, head: Any, headers: Any, body: bytes) -> None:
        self.answers.append(headers.get(b"Micro-Error", body))


class Served:
    """A dispatcher, and the contexts of the handlers that it began."""

    def __init__(self, runner: Any, limits: Limits | None = None) -> None:
        self.begun: list[Context] = []
        handler = Handler(
            name="Test.Work", kind=HandlerKind.UNARY, function=self._work, request_type=Any, response_type=Any
        )
        codecs = CodecSet([JsonCodec()])
        self.dispatcher = Dispatcher(
            "test",
            {handler.name: handler},
            self._on_event,
            codecs,
            middleware=(),
            guards=(),
            runner=runner,
            limits=limits,
        )

    async def _work(self, context: Context, request: Any) -> str:
        self.begun.append(context)
        await anyio.lowlevel.checkpoint()
        return "done"

    async def _on_event(self, topic: str, message: Any, context: Context) -> None:
        return None


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    async with open_runner() as runner:
        yield Served(runner)


async def test_calls_that_are_given_up_before_their_turn_never_begin_and_are_counted_down() -> None:
    async with serving() as served:
        requests = [Arrived() for _ in range(90)]
        for request in requests:
            served.dispatcher.receive(request)
            assert request.abandon is not None
            request.abandon()
        assert served.dispatcher.in_flight == 90
        await anyio.wait_all_tasks_blocked()
        assert served.begun == []
        assert served.dispatcher.in_flight == 0
        assert all(len(request.answers) == 1 for request in requests)


async def test_a_call_that_waited_half_of_its_time_for_its_turn_is_refused_as_not_executed() -> None:
    async with serving() as served:
        late, in_time = Arrived(timeout=20), Arrived(timeout=20)
        late.received_at, in_time.received_at = anyio.current_time() - 11, anyio.current_time() - 2
        for request in (late, in_time):
            served.dispatcher.receive(request)
        await anyio.wait_all_tasks_blocked()
        assert len(served.begun) == 1
        assert in_time.answers == [b'"done"']
        assert b'"code":503' in late.answers[0]
        assert b"another node" in late.answers[0]
        assert b'"executed":"no"' in late.answers[0]


async def test_the_timeout_of_a_call_counts_from_the_arrival_of_its_bytes() -> None:
    async with serving() as served:
        request = Arrived(timeout=20)
        request.received_at = anyio.current_time() - 5
        served.dispatcher.receive(request)
        await anyio.wait_all_tasks_blocked()
        assert served.begun[0].deadline == request.received_at + 20


async def test_the_newest_calls_beyond_the_limit_are_refused_and_the_service_s_health_is_told_all_the_same() -> None:
    released = anyio.Event()
    outcomes: list[Any] = []
    async with world() as here:
        service = here.service("waiter", limits=Limits(calls_in_progress=2))

        @service.handler
        class Waiter:
            async def wait(self, request: str) -> str:
                await released.wait()
                return request

        async with service, here.client() as client, anyio.create_task_group() as calls:

            async def call(name: str) -> None:
                outcomes.append(await client.call("waiter", "Waiter.Wait", name, str))

            calls.start_soon(call, "first")
            calls.start_soon(call, "second")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Unavailable, match="2 calls in progress") as refused:
                await client.call("waiter", "Waiter.Wait", "third", str)
            assert refused.value.executed is Executed.NO
            await client.call("waiter", "Debug.Health", {}, dict)
            released.set()
        assert sorted(outcomes) == ["first", "second"]


async def test_the_bytes_of_the_calls_in_progress_are_bounded() -> None:
    async with open_runner() as runner:
        served = Served(runner, limits=Limits(bytes_in_flight=10))
        requests = [Arrived() for _ in range(4)]
        for request in requests:
            served.dispatcher.receive(request)
        await anyio.wait_all_tasks_blocked()
        assert [b"503" in request.answers[0] for request in requests] == [False, False, True, True]
        assert b"another node" in requests[2].answers[0]
        assert served.dispatcher.bytes_in_flight == 0
        served.dispatcher.receive(again := Arrived())
        await anyio.wait_all_tasks_blocked()
        assert again.answers == [b'"done"']


@on_asyncio
async def test_others_have_the_event_loop_between_two_handlers_that_compute() -> None:
    done: list[str] = []

    class Computing:
        deadline = float("inf")

        async def run(self) -> None:
            asyncio.get_running_loop().call_soon(done.append, "others")
            until = time.perf_counter() + 2 * asyncio_workers.TURN_SECONDS
            while time.perf_counter() < until:
                pass
            done.append("computed")

        def waits(self, scope: anyio.CancelScope) -> None:
            raise AssertionError("it never waits")

    async with open_runner() as runner:
        for _ in range(3):
            runner.submit(Computing())
        await anyio.wait_all_tasks_blocked()
    assert done == ["computed", "others"] * 3


@on_asyncio
async def test_workers_that_a_burst_needed_end_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(asyncio_workers, "SHRINK_SECONDS", 0.05)
    released = anyio.Event()

    class Waiting:
        deadline = float("inf")

        async def run(self) -> None:
            await released.wait()

        def waits(self, scope: anyio.CancelScope) -> None:
            pass

    async with open_runner() as runner:
        assert isinstance(runner, AsyncioWorkers)
        for _ in range(300):
            runner.submit(Waiting())
        await anyio.wait_all_tasks_blocked()
        assert len(runner._tasks) >= 300
        released.set()
        with anyio.fail_after(20):
            while len(runner._tasks) > KEPT_WORKERS:
                await asyncio.wait(runner._tasks, return_when=asyncio.FIRST_COMPLETED)
        await anyio.wait_all_tasks_blocked()
        assert len(runner._tasks) == len(runner._idle) == KEPT_WORKERS
        assert runner._shrinking is None
        released = anyio.Event()
        for _ in range(2 * KEPT_WORKERS):
            runner.submit(Waiting())
        released.set()
        await anyio.wait_all_tasks_blocked()
