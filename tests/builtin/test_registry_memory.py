"""What the memory registry does beside what every registry owes."""

from __future__ import annotations

import anyio
import pytest
from msgspec.structs import replace

from micro_core import SYNC, Change, ChangeKind, Node, Record
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry

pytestmark = pytest.mark.anyio

GREETER = Record(name="greeter", version="1", nodes=(Node(id="n1", address="10.0.0.1:80"),))


async def test_what_a_network_forgets_is_told_and_can_be_registered_again() -> None:
    network = MemoryNetwork()
    async with MemoryRegistry(network=network) as here, MemoryRegistry(network=network) as there:
        await here.register(GREETER)
        async with there.watch("greeter") as changes:
            told = [await anext(changes), await anext(changes)]
            there.forget()
            told.append(await anext(changes))
            await here.register(GREETER)
            told.append(await anext(changes))
    assert [change.kind.value for change in told] == ["create", "sync", "delete", "create"]


async def test_a_node_that_moves_to_another_version_leaves_the_old_one() -> None:
    moved = replace(GREETER, version="2")
    async with MemoryRegistry(network=MemoryNetwork()) as registry:
        await registry.register(GREETER)
        async with registry.watch("greeter") as changes:
            assert [await anext(changes), await anext(changes)] == [_change(ChangeKind.CREATE, GREETER), SYNC]
            await registry.register(moved)
            told = [await anext(changes), await anext(changes)]
        assert await registry.lookup("greeter") == [moved]
    assert told == [_change(ChangeKind.DELETE, GREETER), _change(ChangeKind.CREATE, moved)]


async def test_what_changes_before_the_reader_is_in_sync_is_told_before() -> None:
    async with MemoryRegistry(network=MemoryNetwork()) as registry:
        await registry.register(GREETER)
        async with registry.watch("greeter") as changes:
            elsewhere = replace(GREETER, nodes=(Node(id="n1", address="10.0.0.2:80"),))
            await registry.register(elsewhere)
            assert [await anext(changes), await anext(changes)] == [_change(ChangeKind.UPDATE, elsewhere), SYNC]
            with anyio.move_on_after(0.01) as scope:
                await anext(changes)
            assert scope.cancelled_caught


def _change(kind: ChangeKind, record: Record) -> Change:
    return Change(kind=kind, record=record)
