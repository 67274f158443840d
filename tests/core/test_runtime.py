"""What a handler may rely on, whatever it does: the same on asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import sniffio

from micro_core import Call, CallOptions, Context, Handler, HandlerKind, InternalError, Limits, Timeout
from micro_core._runtime.asyncio_workers import CALLS_PER_TURN, AsyncioWorkers
from micro_core._runtime.runner import open_runner
from micro_core._wire.codec_set import CodecSet
from micro_core.builtin.json.codec import JsonCodec
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.memory.transport import MemoryTransport
from micro_core.builtin.rpc.client import RpcClient
from micro_core.builtin.rpc.server import Dispatcher, RpcServer
from micro_core.builtin.selectors.random import RandomSelector
from micro_core.transport import Listener, Request

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True, params=["from a task", "from a callback"])
def requests_come(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests handed over so: on asyncio a callback has the first step made at once, a task has not."""
    if request.param == "from a callback":
        monkeypatch.setattr(MemoryTransport, "listen", listen_from_callbacks)


listen_in_tasks = MemoryTransport.listen


def listen_from_callbacks(
    self: MemoryTransport, address: str, receive: Callable[[Request], None], limits: Limits
) -> AbstractAsyncContextManager[Listener]:
    if sniffio.current_async_library() != "asyncio":
        return listen_in_tasks(self, address, receive, limits)
    loop = asyncio.get_running_loop()

    def from_callback(request: Request) -> None:
        loop.call_soon(receive, request)

    return listen_in_tasks(self, address, from_callback, limits)


on_asyncio = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": uvloop}), id="uvloop" if uvloop else "asyncio")
        for uvloop in (False, True)
    ],
)
"""For what trio has no counterpart of, or promises otherwise."""

FEW_SECONDS = 5


class Server:
    """One server on the memory transport, and calls to it by the names of functions."""

    def __init__(self, client: RpcClient, address: str, running: Any) -> None:
        self._client = client
        self.address = address
        self.running = running

    async def call(self, function: str, request: Any = None, timeout: float = FEW_SECONDS) -> Any:
        options = CallOptions(timeout=timeout, address=self.address)
        return await self._client.call(Call("server", f"Test.{function}", request, Any, options))

    async def idle(self) -> None:
        with anyio.fail_after(FEW_SECONDS):
            await self.running.drain()


async def on_event(topic: str, message: Any, context: Context) -> None:
    return None


@asynccontextmanager
async def serving(*functions: Callable[[Any], Awaitable[Any]]) -> AsyncIterator[Server]:
    def handler(function: Callable[[Any], Awaitable[Any]]) -> Handler:
        return Handler(
            name=f"Test.{function.__name__}",
            kind=HandlerKind.UNARY,
            function=lambda context, request: function(request),
            request_type=Any,
            response_type=Any,
        )

    handlers = {each.name: each for each in map(handler, {plain, *functions})}
    network = MemoryNetwork()
    async with MemoryRegistry(network=network) as registry, MemoryTransport(network=network) as transport:
        server = RpcServer(transport=transport, codecs=[JsonCodec()])
        client = RpcClient(registry=registry, selector=RandomSelector(), transport=transport, codecs=[JsonCodec()])
        async with server.serve("server", "127.0.0.1:0", handlers, on_event, Limits(calls=20_000)) as running, client:
            called = Server(client, running.address, running)
            await called.call("plain")  # a worker waits for more from here on
            yield called
            assert running.in_flight == 0


async def plain(request: Any) -> Any:
    return request


async def waiting(request: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return request


async def test_a_handler_that_never_waits_and_one_that_does_answer() -> None:
    async with serving(plain, waiting) as server:
        assert await server.call("plain", 1) == 1
        assert await server.call("waiting", 2) == 2


async def test_many_calls_at_once_are_all_answered() -> None:
    async with serving(plain, waiting) as server:
        answers: list[int] = []

        async def one(number: int) -> None:
            answers.append(await server.call("waiting" if number % 3 else "plain", number, timeout=60))

        async with anyio.create_task_group() as tasks:
            for number in range(2_000):
                tasks.start_soon(one, number)
        assert sorted(answers) == list(range(2_000))


async def test_the_deadline_cancels_a_handler_and_its_caller_gets_a_timeout() -> None:
    cancelled = anyio.Event()

    async def sleeps(request: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(sleeps) as server:
        with pytest.raises(Timeout):
            await server.call("sleeps", timeout=0.05)
        with anyio.fail_after(FEW_SECONDS):
            await cancelled.wait()
        await server.idle()


async def test_a_shield_holds_beyond_the_deadline_and_may_await() -> None:
    finished = anyio.Event()

    async def shielded(request: Any) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.1)
            finished.set()
        await anyio.sleep_forever()

    async with serving(shielded) as server:
        with pytest.raises(Timeout):
            await server.call("shielded", timeout=0.2)
        with anyio.fail_after(FEW_SECONDS):
            await finished.wait()
        await server.idle()


async def test_finally_may_await_under_a_shield() -> None:
    cleaned = anyio.Event()

    async def cleans_up(request: Any) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                cleaned.set()

    async with serving(cleans_up) as server:
        with pytest.raises(Timeout):
            await server.call("cleans_up", timeout=0.2)
        with anyio.fail_after(FEW_SECONDS):
            await cleaned.wait()
        await server.idle()


async def test_cancellation_is_level_triggered() -> None:
    caught: list[BaseException] = []
    done = anyio.Event()

    async def stubborn(request: Any) -> None:
        for _ in range(3):
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class() as error:
                caught.append(error)
        done.set()

    async with serving(stubborn, plain) as server:
        with suppress(Timeout):  # it may answer just before its caller gives up
            await server.call("stubborn", timeout=0.2)
        with anyio.fail_after(FEW_SECONDS):
            await done.wait()
        assert await server.call("plain", 1) == 1
        await server.idle()
        assert len(caught) == 3


async def test_a_caller_that_leaves_cancels_its_handler_and_no_other() -> None:
    started, cancelled, released = anyio.Event(), anyio.Event(), anyio.Event()

    async def sleeps(request: Any) -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async def waits(request: Any) -> str:
        await released.wait()
        return "released"

    async with serving(sleeps, waits) as server, anyio.create_task_group() as tasks:
        answers: list[Any] = []

        async def wait_for_answer() -> None:
            answers.append(await server.call("waits"))

        tasks.start_soon(wait_for_answer)
        async with anyio.create_task_group() as caller:
            caller.start_soon(server.call, "sleeps")
            await started.wait()
            caller.cancel_scope.cancel()
        with anyio.fail_after(FEW_SECONDS):
            await cancelled.wait()
        released.set()
        await server.idle()
    assert answers == ["released"]


variable: ContextVar[str] = ContextVar("variable", default="unset")


async def test_contextvars_do_not_leak_from_one_handler_to_another() -> None:
    seen: list[str] = []

    async def sets(request: Any) -> None:
        seen.append(variable.get())
        variable.set("before waiting")
        await anyio.lowlevel.checkpoint()
        seen.append(variable.get())
        variable.set("after waiting")

    async with serving(sets) as server:
        await server.call("sets")
        await server.call("sets")
    assert seen == ["unset", "before waiting"] * 2


async def test_task_groups_and_threads_work_in_a_handler() -> None:
    async def groups(request: list[int]) -> int:
        total = 0

        async def add(number: int) -> None:
            nonlocal total
            async with anyio.create_task_group() as inner:
                inner.start_soon(anyio.sleep, 0)
            doubled = await anyio.to_thread.run_sync(lambda: number * 2)
            total += doubled

        async with anyio.create_task_group() as tasks:
            for number in request:
                tasks.start_soon(add, number)
        return total

    async with serving(groups) as server:
        assert await server.call("groups", [1, 2, 3]) == 12


async def test_a_deadline_ends_a_handler_s_task_group() -> None:
    cancelled: list[int] = []

    async def groups(request: Any) -> None:
        async def sleeps(number: int) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(number)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleeps, 1)
            tasks.start_soon(sleeps, 2)

    async with serving(groups) as server:
        with pytest.raises(Timeout):
            await server.call("groups", timeout=0.2)
        await server.idle()
    assert sorted(cancelled) == [1, 2]


async def test_a_handler_s_own_time_limits_are_its_own_affair() -> None:
    async def limits(request: Any) -> list[str]:
        happened = []
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
        happened.append("move_on_after")
        try:
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()
        except TimeoutError:
            happened.append("fail_after")
        return happened

    async with serving(limits) as server:
        assert await server.call("limits") == ["move_on_after", "fail_after"]


@on_asyncio
async def test_asyncio_s_own_time_limits_work() -> None:
    async def limits(request: Any) -> list[str]:
        happened = []
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            happened.append("timeout")
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.01)
        except TimeoutError:
            happened.append("wait_for")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.sleep(0))
        happened.append("TaskGroup")
        return happened

    async with serving(limits, plain) as server:
        for _ in range(3):
            assert await server.call("limits") == ["timeout", "wait_for", "TaskGroup"]


def cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@on_asyncio
async def test_a_handler_that_cancels_its_own_task_fails_only_its_own_call() -> None:
    async def cancels_and_waits(request: Any) -> None:
        cancel_own_task()
        await asyncio.sleep(1)

    async def raises(request: Any) -> None:
        raise asyncio.CancelledError

    async def cancels_and_returns(request: Any) -> str:
        if request:
            await asyncio.sleep(0)
        cancel_own_task()
        return "done"

    async def cancels_and_awaits_another(request: Any) -> None:
        another = asyncio.ensure_future(asyncio.sleep(60))
        cancel_own_task()
        try:
            await another
        finally:
            others.append(another.cancelled())

    async def swallows(request: Any) -> str:
        cancel_own_task()
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            pass
        return "swallowed"

    async def cancelling(request: Any) -> int:
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        return task.cancelling()

    others: list[bool] = []
    functions = (cancels_and_waits, cancels_and_awaits_another, raises, cancels_and_returns, swallows, cancelling)
    async with serving(*functions, waiting) as server:
        for _ in range(3):
            with pytest.raises(InternalError):
                await server.call("cancels_and_awaits_another")
            with pytest.raises(InternalError):
                await server.call("cancels_and_waits")
            assert await server.call("waiting", 1) == 1
            with pytest.raises(InternalError):
                await server.call("raises")
            assert await server.call("waiting", 1) == 1
            assert await server.call("swallows") == "swallowed"
            assert await server.call("cancelling") == 0
            for waits in (False, True):
                async with anyio.create_task_group() as tasks:
                    answers: list[Any] = []

                    async def ask(function: str, request: Any, into: list[Any]) -> None:
                        into.append(await server.call(function, request))

                    tasks.start_soon(ask, "cancels_and_returns", waits, answers)
                    tasks.start_soon(ask, "waiting", "neighbour", answers)
                    tasks.start_soon(ask, "waiting", "neighbour", answers)
                assert sorted(answers) == ["done", "neighbour", "neighbour"]
    assert others == [True] * 3


async def test_a_handler_that_asks_the_process_to_exit_fails_one_call() -> None:
    async def exits(request: Any) -> None:
        if request:
            await anyio.lowlevel.checkpoint()
        raise SystemExit(3)

    async with serving(exits, plain) as server:
        for waits in (False, True):
            with pytest.raises(InternalError, match=r"^internal error, reference [0-9a-f]{8}$"):
                await server.call("exits", waits)
        assert await server.call("plain", 1) == 1


async def test_the_end_of_a_server_cancels_what_runs() -> None:
    started, cancelled = anyio.Event(), anyio.Event()

    async def sleeps(request: Any) -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    class Job:
        deadline = anyio.current_time() + 60

        async def run(self) -> None:
            await sleeps(None)

        def waits(self, scope: anyio.CancelScope) -> None:
            pass

    async with open_runner() as runner:
        runner.submit(Job())
        with anyio.fail_after(FEW_SECONDS):
            await started.wait()
    assert cancelled.is_set()


@on_asyncio
async def test_a_job_that_shields_itself_holds_up_the_end_no_longer_than_allowed(caplog: Any) -> None:
    started = anyio.Event()

    class Job:
        deadline = float("inf")

        async def run(self) -> None:
            started.set()
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()

        def waits(self, scope: anyio.CancelScope) -> None:
            pass

    with anyio.fail_after(FEW_SECONDS):
        async with open_runner(closing_seconds=0.05) as runner:
            runner.submit(Job())
            await started.wait()
    assert "1 handlers shield themselves" in caplog.text


class Noting:
    """A job that notes what it runs in, and then raises what it is told to."""

    deadline = float("inf")

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.task: asyncio.Task[Any] | None = None

    async def run(self) -> None:
        self.task = asyncio.current_task()
        if self.error is not None:
            raise self.error

    def waits(self, scope: anyio.CancelScope) -> None:
        raise AssertionError("it never waits")


@on_asyncio
async def test_a_callback_has_the_first_step_made_at_once_by_a_worker_that_waits_so_often_in_a_turn() -> None:
    async with open_runner() as runner:
        assert isinstance(runner, AsyncioWorkers)
        runner.submit(Noting())
        await anyio.wait_all_tasks_blocked()
        (worker,) = runner._tasks
        jobs = [Noting() for _ in range(CALLS_PER_TURN + 3)]

        def submit_all() -> None:
            for job in jobs:
                runner.submit(job)
            made_at_once.extend(job.task is worker for job in jobs)

        made_at_once: list[bool] = []
        asyncio.get_running_loop().call_soon(submit_all)
        await anyio.wait_all_tasks_blocked()
        assert made_at_once == [True] * CALLS_PER_TURN + [False] * 3
        assert [job.task for job in jobs] == [worker] * len(jobs)


@pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")])
async def test_tasks_that_start_at_once_run_handlers_too() -> None:
    """Of Python 3.12 and later; 3.11 runs this as it is. uvloop gives the factory arguments that it does not take."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory", None))
    async with serving(plain, waiting) as server:
        for number in range(3):
            assert await server.call("plain", number) == number
            assert await server.call("waiting", number) == number


@on_asyncio
async def test_what_breaks_a_job_s_promise_takes_one_worker_alone(caplog: Any) -> None:
    async with open_runner() as runner:
        assert isinstance(runner, AsyncioWorkers)
        for _ in range(2):
            runner.submit(Noting())
            await anyio.wait_all_tasks_blocked()
            (worker,) = runner._tasks
            asyncio.get_running_loop().call_soon(runner.submit, Noting(OSError("broken")))
            await anyio.wait_all_tasks_blocked()
            assert worker.done()
            assert isinstance(worker.exception(), OSError)


async def test_an_exception_of_the_body_leaves_the_runner_with_its_own_type() -> None:
    with pytest.raises(KeyError):
        async with open_runner():
            raise KeyError


async def test_giving_up_after_the_answer_harms_nobody() -> None:
    """The transport may call ``abandon`` late; the worker runs somebody else's job by then."""
    abandons: list[Any] = []
    released = anyio.Event()

    class Late(Dispatcher):
        def receive(self, request: Any) -> None:
            super().receive(request)
            requests.append(request)

    requests: list[Any] = []
    answered: list[Any] = []

    async def waits(context: Context, request: Any) -> str:
        await anyio.lowlevel.checkpoint()
        if request:
            await released.wait()
        return "done"

    handler = Handler(name="Test.Waits", kind=HandlerKind.UNARY, function=waits, request_type=Any, response_type=Any)
    async with open_runner() as runner:
        codecs = CodecSet([JsonCodec()])
        dispatcher = Late("test", {"Test.Waits": handler}, on_event, codecs, middleware=(), guards=(), runner=runner)
        for body in (b"false", b"true"):
            dispatcher.receive(FakeRequest(body, answered, abandons))
            await anyio.wait_all_tasks_blocked()
        first = requests[0]
        assert first.abandon is None
        released.set()
        await anyio.wait_all_tasks_blocked()
    assert answered == [b'"done"', b'"done"']
    assert dispatcher.in_flight == 0


class FakeRequest:
    stream = None
    local = remote = "127.0.0.1:1"
    peer = ()
    received_at = None

    def __init__(self, body: bytes, answered: list[Any], abandons: list[Any]) -> None:
        self.headers = {b"Micro-Endpoint": b"Test.Waits", b"Content-Type": b"application/json"}
        self.body = body
        self.abandon: Any = None
        self._answered = answered

    def respond(self, head: Any, headers: Any, body: bytes) -> None:
        self._answered.append(body)


async def test_few_workers_run_many_calls() -> None:
    async with open_runner() as runner:
        done = 0

        class Job:
            deadline = float("inf")

            async def run(self) -> None:
                nonlocal done
                done += 1

            def waits(self, scope: anyio.CancelScope) -> None:
                raise AssertionError("it never waits")

        class Lax(Job):
            def waits(self, scope: anyio.CancelScope) -> None:
                pass

        if isinstance(runner, AsyncioWorkers):
            for _ in range(10_000):
                runner.submit(Job())
            await anyio.wait_all_tasks_blocked()
            assert len(runner._tasks) == 1
        else:
            for _ in range(10_000):
                runner.submit(Lax())
            await anyio.wait_all_tasks_blocked()
        assert done == 10_000
