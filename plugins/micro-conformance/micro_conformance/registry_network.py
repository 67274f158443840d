"""What a registry with a server owes where that cannot be reached, hangs, falls silent, or comes back empty."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import anyio
import pytest

from micro_conformance.registry_watching import nodes_told, until_sync
from micro_conformance.suite import Suite, promise
from micro_core import Change, ChangeKind, Record, Registry, RegistryError

__all__ = ["NetworkPromises"]


class NetworkPromises(Suite):
    """The part of `RegistryConformance` about servers that fail, as a proxy before them and their restart show it."""

    refused_options: ClassVar[Mapping[str, Any]] = {}
    """Options that the server refuses for good: a wrong password."""

    @abstractmethod
    def record(self, *ids: str, version: str = "1.0.0", service: str = "a", port: int = 1, **fields: Any) -> Record:
        """Return a record whose nodes have these ids."""

    @abstractmethod
    async def lookup_until(self, registry: Registry, name: str, enough: Callable[[list[Record]], bool]) -> list[Record]:
        """Look up until ``enough``."""

    # Watches

    @promise(needs="server")
    async def test_a_watch_tells_what_changed_while_its_server_was_away_or_raises(self) -> None:
        self.needs_watch()
        stays, goes, comes = self.record("n1"), self.record("n2", port=2), self.record("n3", port=3)
        with self.proxy() as proxy:
            async with self.make() as here, self.make(server=proxy.address) as there:
                await here.register(stays)
                await here.register(goes)
                async with there.watch(goes.name) as changes:
                    await until_sync(changes)
                    proxy.down()
                    await here.deregister(goes)
                    await here.register(comes)
                    proxy.restore()
                    await until_known(there, changes, [comes], [goes])

    @promise(needs="server")
    async def test_a_watch_whose_connection_fell_silent_tells_what_changed_or_raises(self) -> None:
        self.needs_watch()
        goes, comes = self.record("n1"), self.record("n2", port=2)
        with self.proxy() as proxy:
            async with self.make() as here, self.make(server=proxy.address) as there:
                await here.register(goes)
                async with there.watch(goes.name) as changes:
                    await until_sync(changes)
                    proxy.silence()
                    await here.deregister(goes)
                    await here.register(comes)
                    await until_known(there, changes, [comes], [goes])

    @promise(needs="server")
    async def test_a_watch_of_a_server_that_comes_back_empty_tells_that_all_has_gone_or_raises(self) -> None:
        self.needs_watch()
        await self.needs_restart()
        records = self.several()
        async with self.make() as here, self.make() as there:
            for record in records:
                await here.register(record)
            async with there.watch(records[0].name) as changes:
                await until_sync(changes)
                await self.restart_server()
                await until_known(there, changes, [], records)

    # Hanging

    @promise(needs="server")
    async def test_what_a_server_that_hangs_is_asked_is_a_registry_error(self) -> None:
        record = self.record("n1")
        with self.proxy() as proxy:
            async with self.make(server=proxy.address) as registry:
                await registry.register(record)
                proxy.hang()
                async with anyio.create_task_group() as tasks:
                    for ask in asked_of(registry, record):
                        tasks.start_soon(fails, ask)
                proxy.restore()

    @promise(needs="server")
    async def test_closing_waits_for_no_server_that_hangs(self) -> None:
        with self.proxy() as proxy:
            async with self.make(server=proxy.address) as registry:
                await registry.register(self.record("n1"))
                proxy.hang()
                await registry.aclose()

    # Coming back

    @promise(needs="server")
    async def test_a_registry_opened_while_its_server_is_down_opens_and_works_when_it_is_back(self) -> None:
        record = self.record("n1")
        with self.proxy() as proxy:
            proxy.down()
            async with self.make(server=proxy.address) as registry:
                register, _, lookup, services = asked_of(registry, record)
                for ask in (register, lookup, services):
                    await fails(ask)
                proxy.restore()
                await works_again(register)
                await self.lookup_until(registry, record.name, bool)
                assert record.name in await registry.services()

    @promise(needs="server")
    async def test_a_registry_works_on_after_an_outage(self) -> None:
        before, after, later = (self.record(f"n{number}", port=number) for number in (1, 2, 3))
        with self.proxy() as proxy:
            async with self.make() as here, self.make(server=proxy.address) as registry:
                await registry.register(before)
                await registry.lookup(before.name)
                proxy.down()
                await fails(asked_of(registry, before)[2])
                proxy.restore()
                await works_again(lambda: registry.register(after))
                await self.lookup_until(registry, after.name, lambda found: after.nodes[0].id in ids_of(found))
                if "watch" not in self.missing:
                    async with registry.watch(later.name) as changes:
                        await until_sync(changes)
                        await here.register(later)
                        await until_told(changes, [later], [])

    @promise(needs="server")
    async def test_a_record_is_registered_again_with_a_server_that_came_back_empty(self) -> None:
        await self.needs_restart()
        records = self.several()
        async with self.make() as here, self.make() as there:
            for record in records:
                await here.register(record)
            await there.lookup(records[0].name)
            await self.restart_server()
            for record in reversed(records):
                await works_again(asked_of(here, record)[0])
            await self.lookup_until(there, records[0].name, lambda found: ids_of(found) == ids_of(records))

    # Refused for good

    @promise(needs="server")
    async def test_what_a_server_refuses_for_good_is_a_permanent_registry_error(self) -> None:
        if not self.refused_options:
            pytest.skip("not claimed: refusing, `refused_options` is not given")
        self.proxy()  # which leaves the test out where there is no server
        self.options = {**self.options, **self.refused_options}
        async with self.make() as registry:
            register, _, _, services = asked_of(registry, self.record("n1"))
            for ask in (register, services):
                assert (await fails(ask)).permanent

    def several(self) -> list[Record]:
        """Return so many records that a server which counts is further on than one that was started anew."""
        return [self.record(f"n{number}", port=number) for number in range(1, 5)]

    async def needs_restart(self) -> None:
        """Leave the test out where there is no server, or none that the tests may start anew."""
        self.proxy()
        if type(self).restart_server is Suite.restart_server:
            await self.restart_server()

    def needs_watch(self) -> None:
        """Leave the test out for registries without watches."""
        if "watch" in self.missing:
            pytest.skip(f"not claimed: watch, {self.missing['watch']}")


Ask = Callable[[], Awaitable[Any]]


def asked_of(registry: Registry, record: Record) -> tuple[Ask, Ask, Ask, Ask]:
    """Return what can be asked of a registry: to register, to deregister, to look up, and what services there are."""
    return (
        lambda: registry.register(record),
        lambda: registry.deregister(record),
        lambda: registry.lookup(record.name),
        registry.services,
    )


async def fails(ask: Ask) -> RegistryError:
    """Return the `RegistryError` that asking raises; it has to."""
    with pytest.raises(RegistryError) as raised:
        await ask()
    return raised.value


async def works_again(ask: Ask) -> None:
    """Ask until the registry has got over an outage: it may need a moment, within the test's patience."""
    while True:
        try:
            await ask()
        except RegistryError:
            await anyio.sleep(0.05)
        else:
            return


async def until_known(
    registry: Registry, changes: AsyncIterator[Change], comes: Sequence[Record], goes: Sequence[Record]
) -> None:
    """Return when a watch has told who came and who went; where it raises, one that takes its place has to."""
    try:
        await until_told(changes, comes, goes)
    except RegistryError:
        await works_again(lambda: found_anew(registry, comes, goes))


async def until_told(changes: AsyncIterator[Change], comes: Sequence[Record], goes: Sequence[Record]) -> None:
    """Return when a watch has told who came and who went."""
    missing = {(node, True) for node in ids_of(comes)} | {(node, False) for node in ids_of(goes)}
    while missing:
        change = await told_next(changes)
        missing -= {(node.id, change.kind is not ChangeKind.DELETE) for node in change.record.nodes}


async def found_anew(registry: Registry, comes: Sequence[Record], goes: Sequence[Record]) -> None:
    """Return when a new watch has told of who came, and no more of who went. Raises `RegistryError`."""
    async with registry.watch((*comes, *goes)[0].name) as changes:
        told = await until_sync(changes)
        while not ids_of(comes) <= (known := {id for id, _ in nodes_told(told)}) or ids_of(goes) & known:
            told.append(await told_next(changes))


async def told_next(changes: AsyncIterator[Change]) -> Change:
    """Return the next change of a watch, which never ends."""
    async for change in changes:
        return change
    pytest.fail("the watch ended")


def ids_of(records: Sequence[Record]) -> set[str]:
    """Return the ids of all nodes."""
    return {node.id for record in records for node in record.nodes}
