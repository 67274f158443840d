"""The memory registry: who is there in this process, or in this world of a test."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.published import NodeKey, Published, Watcher, key_of
from micro_core.errors import Closed, ConfigError
from micro_core.hookspecs import hookimpl
from micro_core.registry import Change, ChangeKind, Node, Record, Registry, joined

__all__ = ["MemoryRegistry", "make_registry"]


class MemoryRegistry(Registry):
    """Keeps nodes in a `MemoryNetwork`. ``clock`` gives seconds; by default that of the event loop."""

    name = "memory"

    def __init__(
        self, *, network: MemoryNetwork | None = None, clock: Callable[[], float] = anyio.current_time
    ) -> None:
        self.network = network or MemoryNetwork.join()
        self._clock = clock
        self._closed = False

    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        self._prepare()
        _check(record)
        expires = self._clock() + ttl if ttl else math.inf
        for node in record.nodes:
            alone = replace(record, nodes=(_frozen(node),), metadata=MappingProxyType(dict(record.metadata)))
            self._publish(Published(record=alone, owner=self, expires=expires))

    def _publish(self, published: Published) -> None:
        key, known = key_of(published.record), self.network.nodes.get(key_of(published.record))
        if known is not None and known.record.version != published.record.version:
            self._remove(key)
            known = None
        self.network.nodes[key] = published
        if known is None:
            self._tell(ChangeKind.CREATE, published.record)
        elif known.record != published.record:
            self._tell(ChangeKind.UPDATE, published.record)
        else:
            self._wake()

    async def deregister(self, record: Record) -> None:
        self._prepare()
        for node in record.nodes:
            published = self.network.nodes.get((record.name, node.id))
            if published is not None and published.owner is self:
                self._remove((record.name, node.id))

    def forget(self) -> None:
        """Lose every node of every registry of this network, as a server does that is started anew; for tests."""
        for key in list(self.network.nodes):
            self._remove(key)

    def _remove(self, key: NodeKey) -> None:
        if published := self.network.nodes.pop(key, None):
            self._tell(ChangeKind.DELETE, published.record)

    def _tell(self, kind: ChangeKind, record: Record) -> None:
        for watcher in self.network.watchers:
            if watcher.service in (None, record.name):
                watcher.put(Change(kind=kind, record=record))

    def _wake(self) -> None:
        for watcher in self.network.watchers:
            watcher.wake()

    async def lookup(self, name: str) -> Sequence[Record]:
        self._prepare()
        return joined(known.record for known in self.network.nodes.values() if known.record.name == name)

    async def services(self) -> Sequence[str]:
        await anyio.lowlevel.checkpoint()  # whoever is held up meanwhile has a turn, as with any registry
        self._prepare()
        return sorted({name for name, _ in self.network.nodes})

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watch(name)

    @asynccontextmanager
    async def _watch(self, name: str | None) -> AsyncIterator[AsyncIterator[Change]]:
        self._prepare()
        watcher = Watcher(name, self._prepare, self._seconds_to_expiry)
        for known in self.network.nodes.values():
            if name in (None, known.record.name):
                watcher.put(Change(kind=ChangeKind.CREATE, record=known.record))
        self.network.watchers.add(watcher)
        try:
            yield watcher
        finally:
            self.network.watchers.discard(watcher)

    def _prepare(self) -> None:
        """Forget nodes whose time is over, and refuse work once closed."""
        if self._closed:
            raise Closed("the memory registry was closed")
        now = self._clock()
        for key in [key for key, published in self.network.nodes.items() if published.expires <= now]:
            self._remove(key)

    def _seconds_to_expiry(self) -> float:
        return min((published.expires for published in self.network.nodes.values()), default=math.inf) - self._clock()

    async def aclose(self) -> None:
        if self._closed:
            return
        for key in [key for key, published in self.network.nodes.items() if published.owner is self]:
            self._remove(key)
        self._closed = True
        self._wake()

    def __repr__(self) -> str:
        return f"<MemoryRegistry {'closed' if self._closed else 'open'}, {self.network!r}>"


def _frozen(node: Node) -> Node:
    return replace(node, metadata=MappingProxyType(dict(node.metadata)))


def _check(record: Record) -> None:
    if not record.name:
        raise ConfigError("a service needs a name to be registered")
    for node in record.nodes:
        if not node.id:
            raise ConfigError(f"a node of {record.name!r} at {node.address} needs an id to be registered")


@hookimpl
def make_registry() -> Registry:
    """Return a memory registry of the current network."""
    return MemoryRegistry()
