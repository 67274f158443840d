"""What a registry owes nodes, watches and leases that several have a part in, and the secrets it was given."""

from __future__ import annotations

import re
import traceback
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import anyio
import pytest
from msgspec.structs import replace

from micro_conformance.registry_watching import nodes_told, until_sync
from micro_conformance.suite import Suite, promise
from micro_core import MicroError, Node, Record, Registry

__all__ = ["SharingPromises"]

SECRET = re.compile("secret|password|passwd|token|credential", re.IGNORECASE)
"""The names of options whose values nobody may read."""


class SharingPromises(Suite):
    """The part of `RegistryConformance` about what is shared, renewed differently, or kept from others."""

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

    @abstractmethod
    def unreachable(self) -> AbstractContextManager[Registry]:
        """Make a registry that gets no answer."""

    # Objects and watches beside each other

    @promise(needs="register")
    async def test_a_node_that_two_registered_stays_when_the_earlier_one_closes(self) -> None:
        record = self.record("n1")
        async with self.registry() as later, self.registry() as there:
            async with self.registry() as earlier:
                await earlier.register(record)
                await later.register(record)
            await self.lookup_until(there, record.name, bool)

    @promise(needs="watch")
    async def test_a_second_watch_of_one_registry_begins_with_all_that_is_there_too(self) -> None:
        record = self.record("n1")
        async with self.registry() as registry, registry.watch(record.name) as first:
            await until_sync(first)
            await registry.register(record)
            async with registry.watch(record.name) as second:
                assert nodes_told(await until_sync(second)) == {(record.nodes[0].id, record.version)}

    @promise(needs="watch")
    async def test_leaving_a_watch_leaves_the_others_of_its_registry_alone(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as first:
            await until_sync(first)
            async with there.watch(record.name) as second:
                await until_sync(second)
            await here.register(record)
            change = await anext(first)
        assert [node.id for node in change.record.nodes] == [node.id for node in record.nodes]

    @promise(needs="watch")
    async def test_a_registry_that_watches_finds_at_once_what_others_registered(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there, there.watch(record.name) as changes:
            await until_sync(changes)
            await here.register(record)
            assert [node.id for found in await there.lookup(record.name) for node in found.nodes] == [
                node.id for node in record.nodes
            ]

    # Times

    @promise(needs="ttl")
    async def test_renewing_with_a_shorter_ttl_shortens_it(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record)
            await here.register(record, ttl=self.ttl)
            await self.lookup_until(there, record.name, lambda found: not found)

    @promise(needs="ttl")
    async def test_renewing_with_no_ttl_keeps_a_node_for_good(self) -> None:
        record = self.record("n1")
        async with self.registry() as here, self.registry() as there:
            await here.register(record, ttl=self.ttl)
            await here.register(record, ttl=0)
            await anyio.sleep(self.ttl * 2)
            await self.lookup_until(there, record.name, bool)

    # Slashes and secrets

    @promise(needs="register")
    async def test_slashes_in_names_and_in_ids_are_told_apart(self) -> None:
        outer, inner = self.record("n1"), self.record("n1", service="a/b")
        outer = replace(outer, nodes=(Node(id="b/c", address="127.0.0.1:1"),))
        inner = replace(inner, nodes=(Node(id="c", address="127.0.0.1:2"),))
        async with self.registry() as here, self.registry() as there:
            for record in (outer, inner):
                await here.register(record)
            for record in (outer, inner):
                (found,) = await self.lookup_until(there, record.name, bool)
                assert [(node.id, node.address) for node in found.nodes] == [
                    (node.id, node.address) for node in record.nodes
                ]

    @promise()
    async def test_secrets_are_in_no_repr_and_no_error(self) -> None:
        secrets = [str(value) for name, value in self.options.items() if value and SECRET.search(name)]
        if not secrets:
            pytest.skip("not claimed: secret, no option is named like one")
        said = [repr(self.make())]
        if "unreachable" not in self.missing:
            said.append(await self._failing())
        assert [secret for secret in secrets if any(secret in text for text in said)] == []

    async def _failing(self) -> str:
        """Return all that a registry without an answer says of itself and of its errors."""
        said = []
        with self.unreachable() as registry:
            try:
                async with registry:
                    said.append(repr(registry))
                    await registry.lookup(self.named("a"))
            except MicroError as error:
                said.append("".join(traceback.format_exception(error)))
        return "\n".join(said)
