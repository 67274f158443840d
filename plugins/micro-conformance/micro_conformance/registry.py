"""What every registry owes: the promises of `micro_core.registry`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import anyio
import pytest

from micro_conformance.registry_network import NetworkPromises
from micro_conformance.registry_sharing import SharingPromises
from micro_conformance.registry_watching import WatchingPromises
from micro_conformance.suite import promise
from micro_core import Change, ChangeKind, Closed, Endpoint, Node, Record, Registry, RegistryError, Value
from micro_core.testing import make_part

__all__ = ["RegistryConformance"]


class RegistryConformance(WatchingPromises, SharingPromises, NetworkPromises):
    """Subclass it, and give ``plugin`` and ``options``.

    Names begin with ``conformance-`` and a random text; nodes are on 127.0.0.1, and nothing connects to them.
    """

    kind = "registry"
    capabilities: ClassVar[Mapping[str, str]] = {
        "register": "what is registered is found by others",
        "ttl": "nodes that are not renewed vanish",
        "watch": "changes are told",
        "unreachable": "no answer is told from an empty one",
        "server": "it talks to a server, before which a proxy can stand",
    }
    ttl: ClassVar[float] = 0.2
    """The shortest time to live, in seconds, that the registry keeps to."""
    unreachable_options: ClassVar[Mapping[str, Any]] = {}
    """Options with which nothing answers, for registries without a ``server``."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if not 0 < cls.ttl <= cls.patience / 4:
            raise TypeError(
                f"{cls.__name__}.ttl is {cls.ttl}: it has to be more than 0, and a quarter of the patience "
                f"({cls.patience} s) at most, or nothing is seen to run out"
            )

    def registry(self) -> Registry:
        """Return a new registry, not opened; all of one test meet."""
        made = self.make()
        assert isinstance(made, Registry)
        return made

    def record(self, *ids: str, version: str = "1.0.0", service: str = "a", port: int = 1, **fields: Any) -> Record:
        """Return a record whose nodes have these ids."""
        nodes = tuple(
            Node(id=f"{id}-{self.unique}", address=f"127.0.0.1:{port + number}", metadata=fields.get("of_nodes", {}))
            for number, id in enumerate(ids)
        )
        rest = {name: value for name, value in fields.items() if name != "of_nodes"}
        return Record(name=self.named(service), version=version, nodes=nodes, **rest)

    def named(self, service: str) -> str:
        """Return the full name of a service of this test."""
        return f"conformance-{self.unique}-{service}"

    # Finding

    @promise(needs="register")
    async def test_a_registered_node_is_found_by_others_when_register_returns(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            assert nodes_of(await there.lookup(record.name)) == nodes_of([record])

    @promise(needs="register")
    async def test_version_and_metadata_are_found_as_they_were_registered(self) -> None:
        metadata = {"zone": "eu", "micro": "1", "emptied": "", "grün": 'Grüße; a=b, "c"'}
        record = self.record("n1", version="2.1.0-beta+5", of_nodes=metadata, metadata={"team": "hello"})
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            (found,) = await self.lookup_until(there, record.name, bool)
        assert (found.version, found.metadata) == (record.version, record.metadata)
        assert found.nodes[0].metadata.items() >= metadata.items()

    @promise(needs="register")
    async def test_endpoints_are_found_as_they_were_registered(self) -> None:
        field = Value(name="name", type="string")
        request = Value(name="HelloRequest", type="HelloRequest", values=(field,))
        endpoint = Endpoint(name="Greeter.Hello", request=request, response=request, metadata={"idempotent": "true"})
        record = self.record("n1", endpoints=(endpoint, Endpoint(name="Greeter.Chat", metadata={"stream": "true"})))
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            (found,) = await self.lookup_until(there, record.name, bool)
        assert sorted(found.endpoints, key=by_name) == sorted(record.endpoints, key=by_name)

    @promise(needs="register")
    async def test_nodes_of_one_version_are_one_record_and_of_two_versions_two(self) -> None:
        old, more, new = self.record("n1"), self.record("n2", port=2), self.record("n3", version="2.0.0", port=3)
        async with self.registry() as here, self.registry() as there:
            for record in (old, more, new):
                await here.register(record)
            found = await self.lookup_until(there, old.name, lambda found: len(nodes_of(found)) == 3)
        assert {record.version: len(record.nodes) for record in found} == {"1.0.0": 2, "2.0.0": 1}
        assert len(found) == 2

    @promise()
    async def test_an_unknown_service_is_an_empty_answer_and_no_error(self) -> None:
        async with self.registry() as registry:
            assert list(await registry.lookup(self.named("unknown"))) == []

    @promise(needs="register")
    async def test_services_are_listed_sorted_and_each_once(self) -> None:
        async with self.registry() as here, self.registry() as there:
            for service, id, version in (("b", "n1", "1"), ("b", "n2", "1"), ("b", "n3", "2"), ("a", "n4", "1")):
                await here.register(self.record(id, service=service, version=version, port=int(id[1])))
            expected = [self.named("a"), self.named("b")]
            for _ in self.attempts():
                listed = list(await there.services())
                ours = [name for name in listed if self.unique in name]
                if len(ours) >= len(expected):
                    break
                await anyio.sleep(0.05)
        assert ours == expected
        assert listed == sorted(listed)

    @promise(needs="register")
    async def test_many_registered_at_once_are_all_found(self) -> None:
        async with self.registry() as here, self.registry() as there:
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(here.register, self.record(f"n{number}", port=number + 1))
            found = await self.lookup_until(there, self.named("a"), lambda found: len(nodes_of(found)) == 20)
        assert len({node.address for record in found for node in record.nodes}) == 20

    # Changing

    @promise(needs="register")
    async def test_registering_again_publishes_what_changed(self) -> None:
        before, after = self.record("n1", of_nodes={"zone": "eu"}), self.record("n1", port=9, of_nodes={"zone": "us"})
        async with self.registry() as here, self.registry() as there:
            await here.register(before)
            await there.lookup(before.name)
            await here.register(after)
            found = await self.lookup_until(there, after.name, lambda found: nodes_of(found) == nodes_of([after]))
        assert found[0].nodes[0].metadata["zone"] == "us"

    @promise(needs="register")
    async def test_a_deregistered_node_is_not_found_and_the_others_are(self) -> None:
        record, more = self.record("n1"), self.record("n2", port=2)
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            await here.register(more)
            await here.deregister(record)
            found = await self.lookup_until(there, record.name, lambda found: len(nodes_of(found)) == 1)
        assert nodes_of(found) == nodes_of([more])

    @promise(needs="register")
    async def test_a_version_without_nodes_is_not_found(self) -> None:
        old, new = self.record("n1"), self.record("n2", version="2.0.0", port=2)
        async with self.registry() as here, self.registry() as there:
            await here.register(old)
            await here.register(new)
            await here.deregister(old)
            found = await self.lookup_until(there, old.name, lambda found: len(nodes_of(found)) == 1)
        assert [record.version for record in found] == ["2.0.0"]

    @promise()
    async def test_deregistering_what_is_unknown_is_no_error(self) -> None:
        async with self.registry() as registry:
            await registry.deregister(self.record("n1"))

    # Time to live

    @promise(needs="ttl")
    async def test_a_node_that_is_not_renewed_vanishes(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record, ttl=self.ttl)
            await self.lookup_until(there, record.name, bool)
            await self.lookup_until(there, record.name, lambda found: not found)

    @promise(needs="ttl")
    async def test_registering_again_renews_a_node(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await there.lookup(record.name)
            for _ in range(4):
                await here.register(record, ttl=self.ttl)
                await anyio.sleep(self.ttl / 2)
            assert await there.lookup(record.name)

    @promise(needs="register")
    async def test_a_node_with_no_time_to_live_stays(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record, ttl=0)
            await there.lookup(record.name)
            await anyio.sleep(self.ttl * 2)
            assert await there.lookup(record.name)

    # Watching

    @promise(needs="watch")
    async def test_a_watch_tells_of_a_node_that_comes(self) -> None:
        record = self.record("n1", of_nodes={"zone": "eu"})
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as changes:
            await here.register(record)
            change = await until(changes, COMES, record)
        assert (change.record.name, change.record.version) == (record.name, record.version)
        assert change.record.nodes[0].metadata["zone"] == "eu"

    @promise(needs="watch")
    async def test_a_watch_tells_of_a_node_that_changes(self) -> None:
        before, after = self.record("n1"), self.record("n1", port=9)
        async with self.registry() as here, self.registry() as there, there.watch(before.name) as changes:
            await here.register(before)
            await until(changes, COMES, before)
            await here.register(after)
            await until(changes, COMES, after)

    @promise(needs="watch")
    async def test_a_watch_tells_of_a_node_that_goes(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as changes:
            await here.register(record)
            await until(changes, COMES, record)
            await here.deregister(record)
            await until(changes, GOES, record)

    @promise(needs="watch")
    async def test_a_change_names_the_nodes_concerned_and_no_others(self) -> None:
        first, second = self.record("n1"), self.record("n2", port=2)
        async with self.registry() as here, self.registry() as there, there.watch(first.name) as changes:
            await here.register(first)
            await until(changes, COMES, first)
            await here.register(second)
            await until(changes, COMES, second)
            await here.deregister(first)
            change = await until(changes, GOES, first)
        assert nodes_of([change.record]) == nodes_of([first])

    @promise(needs="watch")
    async def test_a_watch_of_one_service_tells_of_no_other(self) -> None:
        other, record = self.record("n1", service="b"), self.record("n2", port=2)
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as changes:
            await here.register(other)
            await here.register(record)
            seen = [await anext(changes)]
            while seen[-1].record.name != record.name:
                seen.append(await anext(changes))
        assert {change.record.name for change in seen if change.kind is not ChangeKind.SYNC} == {record.name}

    @promise(needs="watch")
    async def test_a_watch_of_everything_tells_of_every_service(self) -> None:
        one, other = self.record("n1"), self.record("n2", service="b", port=2)
        async with self.registry() as here, self.registry() as there, there.watch() as changes:
            await here.register(one)
            await until(changes, COMES, one)
            await here.register(other)
            await until(changes, COMES, other)

    @promise(needs="watch")
    async def test_a_watch_that_is_read_late_tells_how_things_are(self) -> None:
        async with self.registry() as here, self.registry() as there, there.watch(self.named("a")) as changes:
            for port in range(1, 200):
                await here.register(self.record("n1", port=port))
            await until(changes, COMES, self.record("n1", port=199))

    @promise(needs="watch")
    async def test_closing_a_registry_is_told_to_watchers(self) -> None:
        record = self.record("n1")
        async with self.registry() as there, there.watch(record.name) as changes:
            async with self.registry() as here:
                await here.register(record)
                await until(changes, COMES, record)
            await until(changes, GOES, record)

    @promise(needs="ttl")
    async def test_a_watch_tells_of_a_node_whose_time_is_over(self) -> None:
        if "watch" in self.missing:
            pytest.skip(f"not claimed: watch, {self.missing['watch']}")
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as changes:
            await here.register(record, ttl=self.ttl)
            await until(changes, COMES, record)
            await until(changes, GOES, record)

    # Closing

    @promise(needs="register")
    async def test_closing_takes_back_what_this_registry_registered_and_nothing_else(self) -> None:
        stays, goes = self.record("n1"), self.record("n2", port=2)
        async with self.registry() as there, self.registry() as other:
            await other.register(stays)
            async with self.registry() as here:
                await here.register(goes)
                await self.lookup_until(there, goes.name, lambda found: len(nodes_of(found)) == 2)
            found = await self.lookup_until(there, goes.name, lambda found: len(nodes_of(found)) < 2)
        assert nodes_of(found) == nodes_of([stays])

    @promise()
    async def test_closing_twice_is_fine(self) -> None:
        async with self.registry() as registry:
            await registry.aclose()
            await registry.aclose()

    @promise()
    async def test_use_after_closing_raises_closed(self) -> None:
        async with self.registry() as registry:
            await registry.aclose()
            for use in (registry.register, registry.deregister):
                with pytest.raises(Closed):
                    await use(self.record("n1"))
            with pytest.raises(Closed):
                await registry.lookup(self.named("a"))
            with pytest.raises(Closed):
                await registry.services()
            with pytest.raises(Closed):
                async with registry.watch():
                    pass

    @promise(needs="unreachable")
    async def test_a_registry_that_does_not_answer_is_a_registry_error_and_no_empty_answer(self) -> None:
        with self.unreachable() as registry, pytest.raises(RegistryError):
            async with registry:
                await registry.lookup(self.named("a"))

    @contextmanager
    def unreachable(self) -> Iterator[Registry]:
        """Make a registry whose server refuses connections, or one with ``unreachable_options``."""
        if self.server:
            with self.proxy() as proxy:
                proxy.refuse()
                yield self.make(server=proxy.address)
        elif self.unreachable_options:
            yield make_part(self.kind, self.plugin, {**self.options, **self.unreachable_options})
        else:
            pytest.skip("not claimed: unreachable, neither server nor unreachable_options are given")

    # How the tests look

    def attempts(self) -> Iterable[int]:
        """Return as many numbers as there are looks in half of the patience, one each twentieth of a second."""
        return range(max(2, int(self.patience * 10)))

    async def lookup_until(self, registry: Registry, name: str, enough: Callable[[list[Record]], bool]) -> list[Record]:
        """Look up until ``enough``: changes are not known everywhere at once, and not all registries have a watch."""
        found: list[Record] = []
        for _ in self.attempts():
            found = list(await registry.lookup(name))
            if enough(found):
                return found
            await anyio.sleep(0.05)
        pytest.fail(f"it stayed at {found}")


COMES = (ChangeKind.CREATE, ChangeKind.UPDATE)
GOES = (ChangeKind.DELETE,)


async def until(changes: AsyncIterator[Change], kinds: tuple[ChangeKind, ...], record: Record) -> Change:
    """Return the first change of one of ``kinds`` that is about the node of ``record``."""
    (node,) = record.nodes
    async for change in changes:
        known = [(found.id, found.address) for found in change.record.nodes]
        if change.kind in kinds and ((node.id, node.address) in known or (kinds is GOES and node.id in dict(known))):
            return change
    pytest.fail("the watch ended")


def nodes_of(records: Iterable[Record]) -> list[tuple[str, str]]:
    """Return id and address of all nodes, sorted."""
    return sorted((node.id, node.address) for record in records for node in record.nodes)


def by_name(endpoint: Endpoint) -> str:
    """Return an endpoint's name."""
    return endpoint.name
