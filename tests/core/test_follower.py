"""Following a registry: what a listener hears has no gaps, whatever the watches below it do."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import anyio
import pytest

from micro_core import SYNC, Change, ChangeKind, Node, Record, Registry, RegistryError
from micro_core.follower import Follower

pytestmark = pytest.mark.anyio

Watch = list[Change | Exception]


def record(*ids: str, version: str = "1", port: int = 80) -> Record:
    nodes = tuple(Node(id=id, address=f"10.0.0.1:{port}") for id in ids)
    return Record(name="greeter", version=version, nodes=nodes)


def create(*ids: str, version: str = "1", port: int = 80) -> Change:
    return Change(kind=ChangeKind.CREATE, record=record(*ids, version=version, port=port))


def delete(*ids: str, version: str = "1") -> Change:
    return Change(kind=ChangeKind.DELETE, record=record(*ids, version=version))


class WatchesAsWritten(Registry):
    """Each watch tells what is written for it; the last one stays open."""

    name = "written"

    def __init__(self, *watches: Watch) -> None:
        self._watches = list(watches)

    async def register(self, record: Record, *, ttl: float = 60.0) -> None: ...

    async def deregister(self, record: Record) -> None: ...

    async def aclose(self) -> None: ...

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watch()

    @asynccontextmanager
    async def _watch(self) -> AsyncIterator[AsyncIterator[Change]]:
        async with aclosing(self._tell(self._watches.pop(0))) as changes:
            yield changes

    async def _tell(self, watch: Watch) -> AsyncGenerator[Change]:
        for step in watch:
            if isinstance(step, Exception):
                raise step
            yield step
        if not self._watches:
            await anyio.sleep_forever()


async def heard(*watches: Watch, grace: float = 0.0, seconds: float = 0.0) -> list[tuple[str, ...]]:
    """Return what a follower of these watches tells: kind, version and ids, or the error's text.

    Pauses take no time; a ``grace`` is slept through, and ``seconds`` are waited at the end.
    """
    told: list[tuple[str, ...]] = []

    def tell(change: Change) -> None:
        told.append((change.kind.value, *[f"{node.id} {change.record.version}" for node in change.record.nodes]))

    async def no_pause(seconds: float) -> None:
        await (anyio.sleep(grace) if seconds == grace and grace else anyio.lowlevel.checkpoint())

    registry = WatchesAsWritten(*watches)

    def lost(error: Exception) -> None:
        told.append((str(error),))

    follower = Follower(registry, "greeter", tell, lost, grace=grace, sleep=no_pause)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.run)
        await anyio.wait_all_tasks_blocked()
        if seconds:
            await anyio.sleep(seconds)
            await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    return told


async def test_each_node_is_told_by_itself() -> None:
    assert await heard([create("a", "b"), SYNC]) == [("create", "a 1"), ("create", "b 1"), ("sync",)]


async def test_after_a_break_the_difference_is_told() -> None:
    before: Watch = [create("stays", "goes", "moves"), SYNC, RegistryError("reset")]
    after: Watch = [create("stays"), create("moves", version="2"), create("new"), SYNC]
    assert (await heard(before, after))[4:] == [
        ("reset",),
        ("delete", "moves 1"),
        ("create", "moves 2"),
        ("create", "new 1"),
        ("delete", "goes 1"),
        ("sync",),
    ]


async def test_nothing_is_gone_while_a_registry_that_comes_back_has_not_told_all() -> None:
    assert await heard([create("a"), SYNC, RegistryError("reset")], []) == [("create", "a 1"), ("sync",), ("reset",)]


EMPTIED: Watch = [create("stays", "goes"), SYNC, RegistryError("reset")]


async def test_with_a_grace_what_a_new_watch_does_not_name_stays_for_now() -> None:
    assert (await heard(EMPTIED, [SYNC], grace=1000.0))[3:] == [("reset",), ("sync",)]


async def test_after_the_grace_what_was_not_named_again_is_gone() -> None:
    told = await heard(EMPTIED, [SYNC, create("stays")], grace=0.05, seconds=0.5)
    assert told[3:] == [("reset",), ("sync",), ("create", "stays 1"), ("delete", "goes 1")]


async def test_what_a_watch_says_is_gone_has_no_grace() -> None:
    told = await heard([create("a", "b"), SYNC, delete("a"), RegistryError("reset")], [SYNC, delete("b")], grace=1000.0)
    assert told[3:] == [("delete", "a 1"), ("reset",), ("sync",), ("delete", "b 1")]


async def test_a_node_in_its_grace_that_comes_back_at_another_version_leaves_the_one_before() -> None:
    told = await heard(EMPTIED, [SYNC, create("stays", version="2")], grace=1000.0)
    assert told[4:] == [("sync",), ("delete", "stays 1"), ("create", "stays 2")]


async def test_a_watch_that_breaks_within_the_grace_begins_another() -> None:
    told = await heard(EMPTIED, [SYNC, RegistryError("again")], [], grace=0.05, seconds=0.5)
    assert told[3:] == [("reset",), ("sync",), ("again",)]


async def test_a_watch_that_ends_by_itself_is_a_lost_registry() -> None:
    told = await heard([create("a"), SYNC], [SYNC])
    assert told[2:] == [("the watch ended by itself, which a registry owes not to do",), ("delete", "a 1"), ("sync",)]


async def test_an_error_that_is_none_of_ours_does_not_end_following() -> None:
    assert await heard([OSError("leaked")], [create("a"), SYNC]) == [("leaked",), ("create", "a 1"), ("sync",)]


async def test_a_node_taken_from_a_version_that_it_has_left_stays() -> None:
    told = await heard([create("a"), SYNC, create("a", version="2"), delete("a", version="1")])
    assert told[2:] == [("delete", "a 1"), ("create", "a 2")]


async def test_an_announcement_that_changes_nothing_is_told_when_it_is_no_part_of_a_beginning() -> None:
    assert (await heard([create("a"), SYNC, create("a")]))[2:] == [("create", "a 1")]


async def test_what_was_lost_and_found_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro.registry")
    await heard([SYNC, RegistryError("reset")], [RegistryError("refused")], [RegistryError("refused")], [SYNC])
    assert [record.getMessage() for record in caplog.records] == [
        "registry written is lost, following 'greeter': reset",
        "registry written is back, following 'greeter'",
    ]
