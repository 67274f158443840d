"""One broken registry for each promise; the table's key is the promise that alone catches it."""

from typing import Any

import anyio.lowlevel
from msgspec.structs import replace

from micro_conformance import RegistryConformance
from micro_core import ChangeKind, Node, RegistryError
from micro_core.builtin.memory.registry import MemoryRegistry


class Sound(MemoryRegistry):
    """The memory registry; with an option it does not answer."""

    def __init__(self, *, unreachable: bool = False) -> None:
        super().__init__()
        self.unreachable = unreachable

    async def lookup(self, name):
        if self.unreachable:
            raise RegistryError("it does not answer")
        return await super().lookup(name)


class FoundLate(Sound):
    looked = False

    async def lookup(self, name):
        found, self.looked, looked = await super().lookup(name), True, self.looked
        return found if looked else []


class AsciiMetadata(Sound):
    async def lookup(self, name):
        return [replace(found, nodes=tuple(map(self.plain, found.nodes))) for found in await super().lookup(name)]

    def plain(self, node: Node) -> Node:
        return replace(node, metadata={key: value for key, value in node.metadata.items() if key.isascii()})


class NoEndpoints(Sound):
    async def lookup(self, name):
        return [replace(found, endpoints=()) for found in await super().lookup(name)]


class RecordForEachNode(Sound):
    async def lookup(self, name):
        return [replace(found, nodes=(node,)) for found in await super().lookup(name) for node in found.nodes]


class UnknownIsAnError(Sound):
    async def lookup(self, name):
        if name.endswith("unknown"):
            raise RegistryError("no such service")
        return await super().lookup(name)


class UnsortedServices(Sound):
    async def services(self):
        return (await super().services())[::-1]


class LosesWhatComesAtOnce(Sound):
    busy = False

    async def register(self, record, *, ttl=60.0):
        if self.busy:
            return
        self.busy = True
        await anyio.lowlevel.checkpoint()
        self.busy = False
        await super().register(record, ttl=ttl)


class KeepsFirstAddress(Sound):
    async def lookup(self, name):
        self.first = getattr(self, "first", {})
        for record in await super().lookup(name):
            for node in record.nodes:
                self.first.setdefault(node.id, node)
        return [
            replace(record, nodes=tuple(self.first[node.id] for node in record.nodes))
            for record in await super().lookup(name)
        ]


class DeregistersTheWholeVersion(Sound):
    async def deregister(self, record):
        await super().deregister(record)
        for key, known in list(self.network.nodes.items()):
            if (known.record.name, known.record.version) == (record.name, record.version):
                self._remove(key)


class EmptyVersions(Sound):
    async def lookup(self, name):
        self.versions = getattr(self, "versions", set())
        found = await super().lookup(name)
        gone = {record.version for record in found}
        kept = [replace(found[0], version="1.0.0", nodes=())] if gone == {"2.0.0"} else []
        return [*found, *kept]


class UnknownCannotBeDeregistered(Sound):
    async def deregister(self, record):
        for node in record.nodes:
            if not self._closed and (record.name, node.id) not in self.network.nodes:
                raise RegistryError("no such node")
        await super().deregister(record)


class FindsWhatHasVanished(Sound):
    last = ()

    async def lookup(self, name):
        self.last = await super().lookup(name) or self.last
        return self.last


class DoesNotRenew(Sound):
    def _publish(self, published):
        known = self.network.nodes.get((published.record.name, published.record.nodes[0].id))
        if known is None or known.record != published.record:
            super()._publish(published)


class ZeroIsSoon(Sound):
    async def register(self, record, *, ttl=60.0):
        await super().register(record, ttl=ttl or 0.05)


class TellsNoMetadata(Sound):
    def _tell(self, kind, record):
        super()._tell(kind, replace(record, nodes=tuple(replace(node, metadata={}) for node in record.nodes)))


class FirstUpdateIsNotTold(Sound):
    updates = 0

    def _tell(self, kind, record):
        self.updates += kind is ChangeKind.UPDATE
        if kind is not ChangeKind.UPDATE or self.updates > 1:
            super()._tell(kind, record)


class LastNodeGoesUntold(Sound):
    async def deregister(self, record):
        if len([key for key in self.network.nodes if key[0] == record.name]) == 1:
            self.network.nodes.clear()
        await super().deregister(record)


class TellsOfAllNodes(Sound):
    def _tell(self, kind, record):
        others = [known.record for known in self.network.nodes.values() if known.record.name == record.name]
        nodes = {node.id: node for other in [*others, record] for node in other.nodes}
        super()._tell(kind, replace(record, nodes=tuple(nodes.values())) if kind is ChangeKind.DELETE else record)


class TellsOfOtherServices(Sound):
    def _tell(self, kind, record):
        for watcher in self.network.watchers:
            watcher.service, wanted = None, watcher.service
            super()._tell(kind, record)
            watcher.service = wanted


class WatchesOneServiceOnly(Sound):
    def _tell(self, kind, record):
        for watcher in self.network.watchers:
            watcher.service = watcher.service or record.name
        super()._tell(kind, record)


class TellsAHundredChanges(Sound):
    told = 0

    def _tell(self, kind, record):
        self.told += 1
        if self.told < 100:
            super()._tell(kind, record)


class ClosesUntold(Sound):
    async def aclose(self):
        for key in [key for key, known in self.network.nodes.items() if known.owner is self]:
            del self.network.nodes[key]
        await super().aclose()


class ExpiresUntold(Sound):
    def _prepare(self):
        for key in [key for key, known in self.network.nodes.items() if known.expires <= self._clock()]:
            del self.network.nodes[key]
        super()._prepare()


class ClosesForOthersToo(Sound):
    async def aclose(self):
        for key in list(self.network.nodes):
            self._remove(key)
        await super().aclose()


class ClosesOnce(Sound):
    leaving = False

    async def aclose(self):
        if self._closed and not self.leaving:
            raise RuntimeError("closed already")
        await super().aclose()

    async def __aexit__(self, *error: Any) -> None:
        self.leaving = True
        await self.aclose()


class WorksWhenClosed(Sound):
    async def services(self):
        return [] if self._closed else await super().services()


class NoAnswerIsAnEmptyOne(Sound):
    async def lookup(self, name):
        return [] if self.unreachable else await super().lookup(name)


class Suite(RegistryConformance):
    plugin = Sound
    unreachable_options = {"unreachable": True}


FAULTS = {
    "test_a_registered_node_is_found_by_others_when_register_returns": FoundLate,
    "test_version_and_metadata_are_found_as_they_were_registered": AsciiMetadata,
    "test_endpoints_are_found_as_they_were_registered": NoEndpoints,
    "test_nodes_of_one_version_are_one_record_and_of_two_versions_two": RecordForEachNode,
    "test_an_unknown_service_is_an_empty_answer_and_no_error": UnknownIsAnError,
    "test_services_are_listed_sorted_and_each_once": UnsortedServices,
    "test_many_registered_at_once_are_all_found": LosesWhatComesAtOnce,
    "test_registering_again_publishes_what_changed": KeepsFirstAddress,
    "test_a_deregistered_node_is_not_found_and_the_others_are": DeregistersTheWholeVersion,
    "test_a_version_without_nodes_is_not_found": EmptyVersions,
    "test_deregistering_what_is_unknown_is_no_error": UnknownCannotBeDeregistered,
    "test_a_node_that_is_not_renewed_vanishes": FindsWhatHasVanished,
    "test_registering_again_renews_a_node": DoesNotRenew,
    "test_a_node_with_no_time_to_live_stays": ZeroIsSoon,
    "test_a_watch_tells_of_a_node_that_comes": TellsNoMetadata,
    "test_a_watch_tells_of_a_node_that_changes": FirstUpdateIsNotTold,
    "test_a_watch_tells_of_a_node_that_goes": LastNodeGoesUntold,
    "test_a_change_names_the_nodes_concerned_and_no_others": TellsOfAllNodes,
    "test_a_watch_of_one_service_tells_of_no_other": TellsOfOtherServices,
    "test_a_watch_of_everything_tells_of_every_service": WatchesOneServiceOnly,
    "test_a_watch_that_is_read_late_tells_how_things_are": TellsAHundredChanges,
    "test_closing_a_registry_is_told_to_watchers": ClosesUntold,
    "test_a_watch_tells_of_a_node_whose_time_is_over": ExpiresUntold,
    "test_closing_takes_back_what_this_registry_registered_and_nothing_else": ClosesForOthersToo,
    "test_closing_twice_is_fine": ClosesOnce,
    "test_use_after_closing_raises_closed": WorksWhenClosed,
    "test_a_registry_that_does_not_answer_is_a_registry_error_and_no_empty_answer": NoAnswerIsAnEmptyOne,
}
