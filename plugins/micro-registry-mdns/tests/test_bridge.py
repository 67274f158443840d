"""Between an event loop of any kind and a thread."""

import asyncio
import threading

import anyio
import pytest

from micro_core import Closed, RegistryError
from micro_registry_mdns.bridge import Mailbox, Thread

pytestmark = pytest.mark.anyio

PATIENCE = 10


async def test_a_coroutine_runs_in_the_thread_and_its_result_comes_back() -> None:
    async def where(number: int) -> tuple[str, int]:
        await asyncio.sleep(0)
        return threading.current_thread().name, number

    thread = Thread("test-thread")
    assert await thread.call(where, 7) == ("test-thread", 7)
    await thread.stop()


async def test_an_error_comes_back_as_it_is() -> None:
    async def fail() -> None:
        raise RegistryError("no")

    thread = Thread("test-thread")
    with pytest.raises(RegistryError, match="no"):
        await thread.call(fail)
    await thread.stop()


async def test_cancelling_the_wait_cancels_the_work() -> None:
    cancelled = threading.Event()

    async def sleep() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    thread = Thread("test-thread")
    with anyio.move_on_after(0.02):
        await thread.call(sleep)
    await thread.stop()
    assert cancelled.is_set()


async def test_work_that_is_cut_short_by_the_end_of_the_thread_is_an_error() -> None:
    async def sleep() -> None:
        started.put(True)
        await asyncio.sleep(60)

    started = Mailbox[bool]()
    thread = Thread("test-thread")
    with pytest.RaisesGroup(pytest.RaisesExc(RegistryError, match="closed")):
        async with anyio.create_task_group() as group:
            group.start_soon(thread.call, sleep)
            await anext(started)
            await thread.stop()


async def test_what_the_thread_puts_arrives_in_order() -> None:
    mailbox = Mailbox[int]()
    thread = Thread("test-thread")
    for number in range(100):
        thread.post(mailbox.put, number)
    with anyio.fail_after(PATIENCE):
        assert [await anext(mailbox) for _ in range(100)] == list(range(100))
    await thread.stop()


async def test_a_reader_that_falls_behind_is_told() -> None:
    mailbox = Mailbox[int](limit=3)
    for number in range(5):
        mailbox.put(number)
    assert [await anext(mailbox) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(RegistryError, match="watch again"):
        await anext(mailbox)


async def test_the_first_failure_is_the_one_that_ends_the_iteration() -> None:
    mailbox = Mailbox[int]()
    mailbox.fail(Closed("closed"))
    mailbox.fail(RegistryError("late"))
    with pytest.raises(Closed):
        await anext(mailbox)


async def test_posting_to_a_thread_that_has_ended_is_nothing() -> None:
    thread = Thread("test-thread")
    await thread.stop()
    thread.post(print)
