"""What a registry owes those who watch it, and those whose names, versions and times resemble each other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

import anyio
import pytest
from msgspec.structs import replace

from micro_conformance.suite import Suite, promise
from micro_core import SYNC, Change, ChangeKind, Closed, Endpoint, Record, Registry

__all__ = ["WatchingPromises"]


class WatchingPromises(Suite):
    """The part of `RegistryConformance` about watches, and about what is easily taken for something else."""

    ttl: ClassVar[float]

    @abstractmethod
    def registry(self) -> Registry:
        """Return a new registry, not opened; all of one test meet."""

    @abstractmethod
    def record(self, *ids: str, version: str = "1.0.0", service: str = "a", port: int = 1, **fields: Any) -> Record:
        """Return a record whose nodes have these ids."""

    @abstractmethod
    def named(self, service: str) -> str:
        """Return the full name of a service of this test."""

    @abstractmethod
    async def lookup_until(self, registry: Registry, name: str, enough: Callable[[list[Record]], bool]) -> list[Record]:
        """Look up until ``enough``."""

    # Watches

    @promise(needs="watch")
    async def test_a_watch_begins_with_all_that_is_there_and_then_syncs(self) -> None:
        old, new = self.record("n1", "n2"), self.record("n3", version="2.0.0", port=3)
        async with self.registry() as here, self.registry() as there:
            await here.register(old)
            await here.register(new)
            async with there.watch(old.name) as changes:
                told = await until_sync(changes)
        assert nodes_told(told) == {(node.id, record.version) for record in (old, new) for node in record.nodes}

    @promise(needs="watch")
    async def test_a_watch_of_what_is_not_there_syncs_too(self) -> None:
        async with self.registry() as registry, registry.watch(self.named("unknown")) as changes:
            assert await until_sync(changes) == []

    @promise(needs="watch")
    async def test_a_read_that_is_cancelled_takes_nothing_from_a_watch(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as changes:
            await until_sync(changes)
            with anyio.move_on_after(0.05):
                await anext(changes)
            await here.register(record)
            change = await anext(changes)
        assert (change.kind, change.record.nodes[0].id) == (ChangeKind.CREATE, record.nodes[0].id)

    @promise(needs="watch")
    async def test_a_node_that_moves_to_another_version_is_told_to_leave_the_old_one(self) -> None:
        old = self.record("n1")
        new = replace(old, version="2.0.0")
        async with self.registry() as here, self.registry() as there, there.watch(old.name) as changes:
            await until_sync(changes)
            await here.register(old)
            assert (await anext(changes)).record.version == "1.0.0"
            await here.register(new)
            told = [await anext(changes), await anext(changes)]
        assert [(change.kind.value, change.record.version) for change in told] == [
            ("delete", "1.0.0"),
            ("create", "2.0.0"),
        ]

    @promise(needs="watch")
    async def test_closing_a_registry_raises_closed_in_its_watches(self) -> None:
        async with self.registry() as registry, registry.watch(self.named("a")) as changes:
            await until_sync(changes)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(registry.aclose)
                with pytest.raises(Closed):
                    await anext(changes)

    # What resembles each other

    @promise(needs="register")
    async def test_a_name_that_begins_as_another_does_is_another(self) -> None:
        names = ["a", "a-b", "a_b", "A"]
        async with self.registry() as here, self.registry() as there:
            for port, name in enumerate(names, start=1):
                await here.register(self.record(f"n{port}", service=name, port=port))
            for port, name in enumerate(names, start=1):
                (found,) = await self.lookup_until(there, self.named(name), bool)
                assert [node.address for node in found.nodes] == [f"127.0.0.1:{port}"]

    @promise(needs="register")
    async def test_a_name_with_a_slash_is_a_name(self) -> None:
        record = self.record("n1", service="a/b")
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            (found,) = await self.lookup_until(there, record.name, bool)
            assert record.name in await there.services()
            assert list(await there.lookup(self.named("a"))) == []
        assert found.name == record.name

    @promise(needs="register")
    async def test_every_node_of_a_record_is_registered_and_taken_back(self) -> None:
        record = self.record("n1", "n2", "n3")
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            found = await self.lookup_until(there, record.name, bool)
            assert {node.id for one in found for node in one.nodes} == {node.id for node in record.nodes}
            await here.deregister(record)
            await self.lookup_until(there, record.name, lambda found: not found)

    @promise(needs="register")
    async def test_endpoints_that_changed_are_published(self) -> None:
        record = self.record("n1", endpoints=(Endpoint(name="Greeter.Hello"),))
        changed = replace(record, endpoints=(Endpoint(name="Greeter.Hello"), Endpoint(name="Greeter.Bye")))
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            await here.register(changed)
            await self.lookup_until(there, record.name, lambda found: bool(found) and len(found[0].endpoints) == 2)

    @promise(needs="register")
    async def test_a_node_of_another_registry_is_not_taken_back(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            await there.deregister(record)
            await self.lookup_until(there, record.name, bool)

    @promise(needs="register")
    async def test_a_service_whose_last_node_has_gone_is_not_listed(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            assert record.name in await there.services()
            await here.deregister(record)
            assert record.name not in await there.services()

    # Times

    @promise(needs="ttl")
    async def test_a_node_that_ran_out_can_be_registered_again(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record, ttl=self.ttl)
            await anyio.sleep(self.ttl * 2)
            await here.register(record)
            await self.lookup_until(there, record.name, bool)

    @promise(needs="ttl")
    async def test_a_ttl_with_a_fraction_of_a_second_is_kept_to(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record, ttl=self.ttl + 0.01)
            await self.lookup_until(there, record.name, lambda found: not found)


async def until_sync(changes: AsyncIterator[Change]) -> list[Change]:
    """Return what a watch tells before its `SYNC`."""
    told: list[Change] = []
    async for change in changes:
        if change == SYNC:
            return told
        told.append(change)
    pytest.fail("the watch ended")


def nodes_told(told: list[Change]) -> set[tuple[str, str]]:
    """Return id and version of the nodes that are there after these changes."""
    nodes: set[tuple[str, str]] = set()
    for change in told:
        concerned = {(node.id, change.record.version) for node in change.record.nodes}
        nodes = nodes - concerned if change.kind is ChangeKind.DELETE else nodes | concerned
    return nodes
