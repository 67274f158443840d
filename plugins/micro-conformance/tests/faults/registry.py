"""One broken registry for each promise; the table's key is the promise that alone catches it."""

from contextlib import asynccontextmanager
from dataclasses import replace as replace_dataclass
from typing import Any

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from micro_conformance import RegistryConformance
from micro_core import SYNC, ChangeKind, Closed, Endpoint, Node, RegistryError
from micro_core.builtin.memory.published import key_of
from micro_core.builtin.memory.registry import MemoryRegistry


class Sound(MemoryRegistry):
    """The memory registry; with an option it does not answer."""

    def __init__(self, *, unreachable: bool = False, secret: str = "") -> None:
        super().__init__()
        self.unreachable = unreachable
        self.secret = secret

    async def lookup(self, name):
        if self.unreachable:
            raise RegistryError("it does not answer")
        return await super().lookup(name)


class FoundLate(Sound):
    looked = False

    async def lookup(self, name):
        found, self.looked, looked = await super().lookup(name), True, self.looked
        return found if looked or self.network.watchers else []


class AsciiMetadata(Sound):
    async def lookup(self, name):
        return [replace(found, nodes=tuple(map(self.plain, found.nodes))) for found in await super().lookup(name)]

    def plain(self, node: Node) -> Node:
        return replace(node, metadata={key: value for key, value in node.metadata.items() if key.isascii()})


class NamesOfEndpointsAlone(Sound):
    async def lookup(self, name):
        return [
            replace(found, endpoints=tuple(Endpoint(name=endpoint.name) for endpoint in found.endpoints))
            for found in await super().lookup(name)
        ]


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
            same = (known.record.name, known.record.version) == (record.name, record.version)
            if same and known.owner is self:
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
    async def register(self, record, *, ttl=60.0):
        known = key_of(record) in self.network.nodes
        await super().register(record, ttl=ttl)
        if ttl == Suite.ttl and not known:
            self.network.vanishing = {record.name: [record]}

    async def lookup(self, name):
        return await super().lookup(name) or getattr(self.network, "vanishing", {}).get(name, [])


class DoesNotRenew(Sound):
    renewed = None

    async def register(self, record, *, ttl=60.0):
        before, self.renewed = self.renewed, (record, ttl)
        if before != self.renewed:
            await super().register(record, ttl=ttl)


class ZeroIsSoon(Sound):
    async def register(self, record, *, ttl=60.0):
        known = key_of(record) in self.network.nodes
        await super().register(record, ttl=ttl if ttl or known else 0.05)


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
        known = [found for key, found in self.network.nodes.items() if key[0] == record.name]
        if len(known) == 1 and known[0].owner is self:
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


class RemembersItsOwn(Sound):
    mine = frozenset()

    async def register(self, record, *, ttl=60.0):
        await super().register(record, ttl=ttl)
        self.mine |= {(record.name, node.id) for node in record.nodes}


class ClosesForOthersToo(RemembersItsOwn):
    async def aclose(self):
        for key in set(self.network.nodes) - self.mine:
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


class SyncsBeforeItHasTold(Sound):
    @asynccontextmanager
    async def _watch(self, name):
        async with super()._watch(name) as watcher:
            late = [change for change in watcher._unread.values() if change.record.version == "2.0.0"]
            for change in late:
                watcher._unread.pop((key_of(change.record), change.record.version))
            yield SyncsEarly(watcher, late)


class SyncsEarly:
    def __init__(self, watcher, late):
        self.watcher, self.late, self.synced = watcher, late, False

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.synced and self.late:
            return self.late.pop()
        change = await anext(self.watcher)
        self.synced |= change == SYNC
        return change


class NeverSyncsWhatIsNotThere(Sound):
    @asynccontextmanager
    async def _watch(self, name):
        async with super()._watch(name) as watcher:
            if name and name.endswith("unknown"):
                watcher._synced = True
            yield watcher


class LosesWhatIsReadWhenCancelled(Sound):
    @asynccontextmanager
    async def _watch(self, name):
        async with super()._watch(name) as watcher:
            yield self._read(watcher)

    async def _read(self, watcher):
        while True:
            yield await anext(watcher)


class MovesUntold(Sound):
    def _tell(self, kind, record):
        moving = kind is ChangeKind.DELETE and self.network.nodes.get(key_of(record)) is None and self.moving
        if not moving:
            super()._tell(kind, record)

    moving = False

    def _publish(self, published):
        known = self.network.nodes.get(key_of(published.record))
        self.moving = known is not None and known.record.version != published.record.version
        super()._publish(published)
        self.moving = False


class WatchesGoOnWhenClosed(Sound):
    @asynccontextmanager
    async def _watch(self, name):
        async with super()._watch(name) as watcher:
            yield self._forever(watcher)

    def _forever(self, watcher):
        return Forever(watcher)


class Forever:
    def __init__(self, watcher):
        self.watcher = watcher

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await anext(self.watcher)
        except Closed:
            await anyio.sleep_forever()


class FindsByBeginning(Sound):
    async def lookup(self, name):
        records = [known.record for known in self.network.nodes.values()]
        found = [record for record in records if record.name.startswith(f"{name}-")]
        return [*await super().lookup(name), *found]


class CutsNamesAtSlashes(Sound):
    async def services(self):
        return sorted({name.partition("/")[0] for name in await super().services()})


class RegistersOneNode(Sound):
    async def register(self, record, *, ttl=60.0):
        await super().register(replace(record, nodes=record.nodes[:2]), ttl=ttl)


class EndpointsStay(Sound):
    def _publish(self, published):
        known = self.network.nodes.get(key_of(published.record))
        if known and (known.record.nodes, known.record.version) == (published.record.nodes, published.record.version):
            published = replace_dataclass(published, record=known.record)
        super()._publish(published)


class TakesBackWhatOthersRegistered(Sound):
    async def deregister(self, record):
        await super().deregister(record)
        for node in record.nodes:
            self._remove((record.name, node.id))


class ListsWhatHasGone(Sound):
    ever = frozenset()

    async def services(self):
        self.ever |= set(await super().services())
        return sorted(self.ever)


class RunsOutOnce(Sound):
    async def register(self, record, *, ttl=60.0):
        known = self.network.nodes.get(key_of(record))
        if known is not None and known.expires <= self._clock():
            raise RegistryError("no such lease")
        await super().register(record, ttl=ttl)


class WholeSeconds(Sound):
    async def register(self, record, *, ttl=60.0):
        await super().register(record, ttl=ttl if ttl == 0.2 else int(ttl))


class TakesBackWhatOthersRegisteredLater(RemembersItsOwn):
    async def aclose(self):
        for key in self.mine if not self._closed else ():
            self._remove(key)
        await super().aclose()


class SecondWatchesHearWhatIsNew(Sound):
    watches = 0

    @asynccontextmanager
    async def _watch(self, name):
        async with super()._watch(name) as watcher:
            self.watches += 1
            if self.watches > 1:
                watcher._unread.clear()
            try:
                yield watcher
            finally:
                self.watches -= 1


class LeavingOneWatchDeafensAll(Sound):
    @asynccontextmanager
    async def _watch(self, name):
        before = set(self.network.watchers)
        async with super()._watch(name) as watcher:
            yield watcher
            self.network.watchers -= {other for other in before if other._prepare.__self__ is self}


class FindsWhatItsWatchHasRead(Sound):
    found = None

    @asynccontextmanager
    async def _watch(self, name):
        self.found = list(await self.lookup(name)) if name else None
        try:
            async with super()._watch(name) as watcher:
                yield watcher
        finally:
            self.found = None

    async def lookup(self, name):
        return await super().lookup(name) if self.found is None else self.found


class LongestTtlStays(Sound):
    def _publish(self, published):
        known = self.network.nodes.get(key_of(published.record))
        if known and known.expires < float("inf"):
            published = replace_dataclass(published, expires=max(known.expires, published.expires))
        super()._publish(published)


class TtlStaysWhereThereIsNone(Sound):
    def _publish(self, published):
        known = self.network.nodes.get(key_of(published.record))
        if known and published.expires == float("inf"):
            published = replace_dataclass(published, expires=known.expires)
        super()._publish(published)


class JoinsKeysAtSlashes(Sound):
    def _publish(self, published):
        name, id = key_of(published.record)
        for other in list(self.network.nodes):
            if other != (name, id) and "/".join(other) == f"{name}/{id}":
                self._remove(other)
        super()._publish(published)


class ShowsItsSecret(Sound):
    def __repr__(self):
        return f"<Registry secret={self.secret}>"


class Suite(RegistryConformance):
    plugin = Sound
    options = {"secret": "open-sesame"}
    missing = {"server": "it is a dictionary"}
    unreachable_options = {"unreachable": True}


FAULTS = {
    "test_a_watch_begins_with_all_that_is_there_and_then_syncs": SyncsBeforeItHasTold,
    "test_a_watch_of_what_is_not_there_syncs_too": NeverSyncsWhatIsNotThere,
    "test_a_read_that_is_cancelled_takes_nothing_from_a_watch": LosesWhatIsReadWhenCancelled,
    "test_a_node_that_moves_to_another_version_is_told_to_leave_the_old_one": MovesUntold,
    "test_closing_a_registry_raises_closed_in_its_watches": WatchesGoOnWhenClosed,
    "test_a_name_that_begins_as_another_does_is_another": FindsByBeginning,
    "test_a_name_with_a_slash_is_a_name": CutsNamesAtSlashes,
    "test_every_node_of_a_record_is_registered_and_taken_back": RegistersOneNode,
    "test_endpoints_that_changed_are_published": EndpointsStay,
    "test_a_node_of_another_registry_is_not_taken_back": TakesBackWhatOthersRegistered,
    "test_a_service_whose_last_node_has_gone_is_not_listed": ListsWhatHasGone,
    "test_a_node_that_two_registered_stays_when_the_earlier_one_closes": TakesBackWhatOthersRegisteredLater,
    "test_a_second_watch_of_one_registry_begins_with_all_that_is_there_too": SecondWatchesHearWhatIsNew,
    "test_leaving_a_watch_leaves_the_others_of_its_registry_alone": LeavingOneWatchDeafensAll,
    "test_a_registry_that_watches_finds_at_once_what_others_registered": FindsWhatItsWatchHasRead,
    "test_renewing_with_a_shorter_ttl_shortens_it": LongestTtlStays,
    "test_renewing_with_no_ttl_keeps_a_node_for_good": TtlStaysWhereThereIsNone,
    "test_slashes_in_names_and_in_ids_are_told_apart": JoinsKeysAtSlashes,
    "test_secrets_are_in_no_repr_and_no_error": ShowsItsSecret,
    "test_a_node_that_ran_out_can_be_registered_again": RunsOutOnce,
    "test_a_ttl_with_a_fraction_of_a_second_is_kept_to": WholeSeconds,
    "test_a_registered_node_is_found_by_others_when_register_returns": FoundLate,
    "test_version_and_metadata_are_found_as_they_were_registered": AsciiMetadata,
    "test_endpoints_are_found_as_they_were_registered": NamesOfEndpointsAlone,
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
