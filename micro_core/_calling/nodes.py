"""The nodes of one service, ready to pick from: the registry's records, less what is filtered and what is left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from micro_core._calling.health import Health
from micro_core.client import Filter
from micro_core.registry import Change, ChangeKind, Node, Record
from micro_core.transport import Channel, Head

__all__ = ["NodeList", "Target"]

SELECTIONS_KEPT = 64
"""How many combinations of filters have their nodes kept; functions made for each call would fill memory."""


class Target:
    """A node with what the client keeps about it."""

    __slots__ = ("channel", "heads", "health", "node")

    def __init__(self, node: Node, channel: Channel) -> None:
        self.node = node
        self.channel = channel
        self.heads: dict[Any, Head] = {}
        self.health = Health()


class NodeList:
    """The nodes of one service. Everything in it is synchronous; the client feeds it from a watch.

    ``connect`` makes the channel of a new node, ``drop`` takes the one of a node that is gone.
    """

    def __init__(
        self,
        service: str,
        connect: Callable[[Node], Channel],
        drop: Callable[[Channel], None],
        random: Callable[[], float],
    ) -> None:
        self.service = service
        self._connect = connect
        self._drop = drop
        self._random = random
        self._records: dict[str, Record] = {}
        self._targets: dict[str, Target] = {}
        self._departed: set[str] = set()
        """The ids of nodes whose address another service has now."""
        self._ready: dict[tuple[Filter, ...], tuple[Node, ...]] = {}
        self._next_due = math.inf
        self.idempotent: frozenset[str] = frozenset()
        """The endpoints that declare it."""

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def other_protocols(self) -> list[str]:
        """What the nodes speak that are not called for it."""
        nodes = [node for record in self._records.values() for node in record.nodes]
        return sorted({node.metadata["protocol"] for node in nodes if not callable_by_rpc(node)})

    def __repr__(self) -> str:
        ejected = sum(target.health.ejected for target in self._targets.values())
        return f"<NodeList {self.service}: {len(self)} nodes, {ejected} left out>"

    def replace(self, records: Iterable[Record]) -> None:
        """Take a whole answer of the registry."""
        self._records = {record.version: record for record in records}
        self._departed.clear()
        self._rebuild()

    def apply(self, change: Change) -> None:
        """Take one event of a watch; a fresh announcement clears what was held against a node."""
        fresh, version = change.record, change.record.version
        ids = {node.id for node in fresh.nodes}
        self._departed -= ids
        for known in tuple(self._records.values()):
            left = tuple(node for node in known.nodes if node.id not in ids)
            self._records[known.version] = replace(known, nodes=left)
        if change.kind is not ChangeKind.DELETE:
            others = self._records[version].nodes if version in self._records else ()
            self._records[version] = replace(fresh, nodes=others + fresh.nodes)
            for node in fresh.nodes:
                if node.id in self._targets:
                    self._targets[node.id].health = Health()
        self._records = {version: record for version, record in self._records.items() if record.nodes}
        self._rebuild()

    def _rebuild(self) -> None:
        nodes = {node.id: node for record in self._records.values() for node in record.nodes if callable_by_rpc(node)}
        for departed in self._departed:
            nodes.pop(departed, None)
        for gone in self._targets.keys() - nodes.keys():
            self._drop(self._targets.pop(gone).channel)
        for id, node in nodes.items():
            known = self._targets.get(id)
            if known is None or known.node != node:
                if known is not None:
                    self._drop(known.channel)
                self._targets[id] = Target(node, self._connect(node))
        self.idempotent = frozenset(
            endpoint.name
            for record in self._records.values()
            for endpoint in record.endpoints
            if endpoint.metadata.get("idempotent") == "true"
        )
        self._forget()

    def _forget(self) -> None:
        """Have the next pick work out its candidates anew."""
        self._ready.clear()
        self._next_due = min((t.health.until for t in self._targets.values() if t.health.ejected), default=math.inf)

    def candidates(self, filters: tuple[Filter, ...], now: float, tried: Collection[str] = ()) -> tuple[Node, ...]:
        """Return the nodes to choose from: a single one where that is to be tried again, none where no node fits.

        Nodes whose ids are ``tried`` come only where there is no other.
        """
        if now >= self._next_due:
            due = self._due(filters, now, tried)
            if due is not None:
                due.health.probe()
                self._forget()
                return (due.node,)
        ready = self._ready.get(filters)
        if ready is None:
            if len(self._ready) >= SELECTIONS_KEPT:
                self._ready.clear()
            ready = self._ready[filters] = self._work_out(filters)
        if not tried:
            return ready
        untried = tuple(node for node in ready if node.id not in tried)
        return untried or tuple(node for node in self._filtered(filters) if node.id not in tried) or ready

    def _due(self, filters: tuple[Filter, ...], now: float, tried: Collection[str]) -> Target | None:
        """Return a fitting node that was left out long enough."""
        due = [target for target in self._targets.values() if target.health.due(now) and target.node.id not in tried]
        if filters and due:
            fitting = self._filtered(filters)
            due = [target for target in due if target.node in fitting]
        return due[0] if due else None

    def _work_out(self, filters: tuple[Filter, ...]) -> tuple[Node, ...]:
        fitting = self._filtered(filters)
        healthy = tuple(node for node in fitting if not self._targets[node.id].health.ejected)
        return healthy or fitting

    def _filtered(self, filters: tuple[Filter, ...]) -> tuple[Node, ...]:
        records: Sequence[Record] = tuple(self._records.values())
        for each in filters:
            records = each(records)
        return tuple(node for record in records for node in record.nodes if node.id in self._targets)

    def target(self, node: Node) -> Target | None:
        """Return what is kept about ``node``; None where it is gone by now."""
        return self._targets.get(node.id)

    def release(self, target: Target, now: float) -> None:
        """Note that the call which was to try a node again told nothing about it."""
        if target.health.probing:
            target.health.release(now)
            self._forget()

    def succeeded(self, target: Target) -> None:
        """Note that a node answered."""
        if target.health.succeeded():
            self._forget()

    def failed(self, target: Target, *, refused: bool, now: float) -> None:
        """Note that a node did not answer; leave it out where it failed too often, never more than half of them."""
        ejected = sum(each.health.ejected for each in self._targets.values())
        may_eject = (ejected + 1) * 2 <= len(self._targets)
        if target.health.failed(refused, now, self._random, may_eject):
            self._forget()

    def departed(self, target: Target) -> None:
        """Note that another service answers at a node's address: it is no node any more until it is announced anew."""
        if self._targets.get(target.node.id) is target:
            self._departed.add(target.node.id)
            self._rebuild()

    def close(self) -> list[Channel]:
        """Forget every node, and return the channels for the caller to close."""
        channels = [target.channel for target in self._targets.values()]
        self._targets.clear()
        self._records.clear()
        self._forget()
        return channels


def callable_by_rpc(node: Node) -> bool:
    """Tell whether a node speaks our protocol: ``mucp``, or a legacy one that names none (docs/wire.md §3.6)."""
    return node.metadata.get("protocol", "mucp") in ("mucp", "")
