"""Owned tasks and hosted resources: opened in one task and closed in another, cancelled, failing, closed twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from micro_core import Broker, Client, Closed, Message, Service, Subscription
from micro_core.builtin.memory.broker import MemoryBroker
from micro_core.tasks import Hosted, OwnedTasks
from micro_core.testing import world

pytestmark = pytest.mark.anyio

user: ContextVar[str] = ContextVar("user", default="nobody")


async def in_another_task(function: Callable[..., Awaitable[Any]], *arguments: object) -> Any:
    """Return what ``function`` returns in a task that has ended by then."""
    results: list[Any] = []

    async def run() -> None:
        results.append(await function(*arguments))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    return results[0]


async def entered_and_left_elsewhere(
    resource: AbstractAsyncContextManager[Any], use: Callable[[], Awaitable[Any]]
) -> Any:
    await in_another_task(resource.__aenter__)
    try:
        return await in_another_task(use)
    finally:
        await in_another_task(resource.__aexit__, None, None, None)


async def test_a_client_and_a_service_are_entered_in_one_task_and_left_in_another() -> None:
    here = world()
    made = await in_another_task(here.__aenter__)
    service: Service = made.service("greeter", linger=0)
    client: Client = made.client()
    heard: list[str] = []

    @service.handler
    async def hello(name: str) -> str:
        return f"Hello {name}"

    @service.subscriber("greetings")
    async def on_greeting(name: str) -> None:
        heard.append(name)

    async def use() -> Any:
        await client.publish("greetings", "Ada", confirm=True)
        return await client.call("greeter", "Greeter.Hello", "Ada")

    async def within_service() -> Any:
        return await entered_and_left_elsewhere(client, use)

    assert await entered_and_left_elsewhere(service, within_service) == "Hello Ada"
    assert heard == ["Ada"]
    await in_another_task(here.__aexit__, None, None, None)
    assert not made.network.listeners
    assert not made.network.nodes


async def test_parts_made_after_a_world_was_left_in_another_task_are_in_no_world() -> None:
    here = world()
    first = await here.__aenter__()
    await in_another_task(here.__aexit__, None, None, None)
    async with world() as second:
        assert MemoryBroker().network is second.network is not first.network


async def test_a_broker_by_itself_is_entered_in_one_task_and_left_in_another() -> None:
    broker: Broker = MemoryBroker()
    heard = anyio.Event()

    async def handler(topic: str, message: Message) -> None:
        heard.set()

    async def use() -> None:
        async with broker.subscribe(Subscription(topic="t", handler=handler)):
            await broker.publish("t", Message({}, b""), confirm=True)

    await entered_and_left_elsewhere(broker, use)
    assert heard.is_set()


async def test_what_is_hosted_may_hold_a_task_group_while_it_is_open() -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[str]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            yield "open"
            tasks.cancel_scope.cancel()

    hosted = Hosted(resource())
    assert await in_another_task(hosted.__aenter__) == "open"
    await in_another_task(hosted.aclose)
    await hosted.aclose()
    assert "closed" in repr(hosted)


async def test_what_opening_raises_is_raised_to_who_enters() -> None:
    database = ""

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        if not database:
            raise SystemExit("no database")
        yield

    with pytest.raises(SystemExit, match="no database"):
        await Hosted(resource()).__aenter__()


async def test_what_closing_raises_is_raised_once_to_who_leaves() -> None:
    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        raise OSError("the disk is full")

    hosted = Hosted(resource())
    await hosted.__aenter__()
    with pytest.raises(OSError, match="the disk is full"):
        await hosted.aclose()
    await hosted.aclose()


async def test_what_ends_a_resource_in_between_is_logged_at_once_and_raised_to_who_leaves(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fails, gone = anyio.Event(), anyio.Event()

    async def fail() -> None:
        await fails.wait()
        raise OSError("the line is cut")

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(fail)
                yield
        finally:
            gone.set()

    hosted = Hosted(resource(), name="the line")
    await hosted.__aenter__()
    fails.set()
    with anyio.fail_after(5):
        await gone.wait()
    await anyio.lowlevel.checkpoint()
    assert "the line failed while it was open" in caplog.text
    with pytest.raises(OSError, match="the line is cut"):
        await hosted.aclose()


async def test_who_is_cancelled_while_entering_leaves_nothing_open() -> None:
    undone = anyio.Event()

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            await anyio.sleep_forever()
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            undone.set()

    with anyio.move_on_after(0.05) as waiting:
        await Hosted(resource()).__aenter__()
    assert waiting.cancelled_caught
    assert undone.is_set()


async def test_who_is_cancelled_while_leaving_cancels_the_clean_up_and_waits_for_its_end() -> None:
    steps = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            steps.append("ended")

    hosted = Hosted(resource())
    with anyio.move_on_after(0.05) as waiting:
        async with hosted:
            steps.append("open")
    assert waiting.cancelled_caught
    assert steps == ["open", "ended"]


async def test_clean_up_knows_how_much_time_who_leaves_has() -> None:
    seen = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        yield
        seen.append(anyio.current_effective_deadline())

    with anyio.fail_after(30) as scope:
        async with Hosted(resource()):
            pass
    assert seen == [scope.deadline]


async def test_owned_tasks_see_the_variables_of_who_opened_them() -> None:
    seen: list[str] = []

    async def look() -> None:
        seen.append(user.get())

    async def start(tasks: OwnedTasks) -> None:
        user.set("whoever came first")
        tasks.start_soon(look)

    user.set("the owner")
    async with OwnedTasks() as tasks:
        await in_another_task(start, tasks)
        await anyio.wait_all_tasks_blocked()
    assert seen == ["the owner"]


async def test_an_owned_task_that_fails_is_logged_and_takes_no_other_along(caplog: pytest.LogCaptureFixture) -> None:
    done = anyio.Event()

    async def fail() -> None:
        raise ValueError("seven")

    async def go_on() -> None:
        await anyio.sleep(0.01)
        done.set()

    async with OwnedTasks() as tasks:
        tasks.start_soon(fail)
        tasks.start_soon(go_on)
        with anyio.fail_after(5):
            await done.wait()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "seven" in caplog.text


async def test_owned_tasks_are_cancelled_when_left_and_take_no_more() -> None:
    cancelled = anyio.Event()

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    tasks = OwnedTasks()
    with pytest.raises(Closed, match="not open"):
        tasks.start_soon(wait)
    async with tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
    assert cancelled.is_set()
    await tasks.aclose()
    with pytest.raises(Closed, match="not open"):
        tasks.start_soon(wait)


def test_owners_of_tasks_are_made_where_no_event_loop_runs() -> None:
    assert repr(OwnedTasks()) == "<OwnedTasks not open>"
    assert "not open" in repr(Hosted(world()))


def test_an_event_loop_that_closes_over_an_open_client_cleans_it_up() -> None:
    ends = []

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            ends.append("closed")

    async def forget() -> None:
        hosted = Hosted(resource())
        await hosted.__aenter__()
        forgotten.append(hosted)

    forgotten: list[object] = []
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(forget())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
    finally:
        loop.close()
    assert ends == ["closed"]
