"""The nodes of one service, ready to pick from: the registry's records, less filtered and ejected ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from heapq import nsmallest

from msgspec.structs import replace

from micro_core._calling.call_coding import CallCoding, FramedHead
from micro_core._calling.health import Health
from micro_core.client import Filter
from micro_core.registry import Change, ChangeKind, Node, Record
from micro_core.transport import Channel

__all__ = ["Aperture", "NodeList", "Target"]


log = logging.getLogger("micro.client")


class Aperture:
    """Which nodes of very many a client uses: ``size`` of those that are well, by rendezvous hashing.

    Each client has an order of its own over all nodes and takes the first: so clients spread evenly, and a node that
    comes or goes changes one place at the most (D. Thaler, C. Ravishankar, "A Name-Based Mapping Scheme for
    Rendezvous", 1996).
    """

    def __init__(self, size: int, random: Callable[[], float]) -> None:
        self.size = size
        self._key = b"%f" % random()

    def rank(self, id: str) -> bytes:
        """Return a node's place in the order."""
        return blake2b(id.encode(), key=self._key, digest_size=8).digest()


class Target:
    """A node with what the client keeps about it."""

    __slots__ = ("address_before", "answered", "channel", "heads", "health", "node", "rank")

    def __init__(self, node: Node, channel: Channel, rank: bytes = b"") -> None:
        self.node = node
        self.channel = channel
        self.heads: dict[CallCoding, FramedHead] = {}
        """The constant headers of requests, kept by the client."""
        self.health = Health()
        self.answered = -math.inf
        """When it answered last, on the client's clock."""
        self.address_before = ""
        """Where the node was until it moved."""
        self.rank = rank
        """Its place in the order in which this client takes nodes, which is another one for each client."""


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
        aperture: Aperture | None = None,
    ) -> None:
        self.service = service
        self._aperture = aperture
        self._connect = connect
        self._drop = drop
        self._random = random
        self._records: dict[str, Record] = {}
        self._targets: dict[str, Target] = {}
        self._ready: tuple[Node, ...] | None = None
        """The candidates of a call without filters, until something changes."""
        self._healthy: dict[str, tuple[Node, ...]] = {}
        """Of each version those that are not ejected, until something changes."""
        self.next_due = math.inf
        """When the next node is to be probed, on the client's clock."""
        self.is_lone = True
        """Whether there is no second node."""
        self.synced = False
        """Whether the registry has told of all nodes that there are."""
        self.idempotent: frozenset[str] = frozenset()
        """The endpoints that declare it."""

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def other_protocols(self) -> list[str]:
        """What the nodes speak that are not called for it."""
        nodes = [node for record in self._records.values() for node in record.nodes]
        return sorted({node.metadata["protocol"] for node in nodes if not callable_by_rpc(node)})

    @property
    def departed_addresses(self) -> list[str]:
        """Where the registry has a node of ours and another service answers."""
        nodes = [node for record in self._records.values() for node in record.nodes]
        return sorted(node.address for node in nodes if callable_by_rpc(node) and node.id not in self._targets)

    def __repr__(self) -> str:
        ejected = sum(target.health.ejected for target in self._targets.values())
        return f"<NodeList {self.service}: {len(self)} nodes, {ejected} ejected>"

    def apply(self, change: Change) -> None:
        """Take one event of a watch; a fresh announcement clears what was held against a node.

        At `SYNC` the list is whole: filters may judge it.
        """
        if change.kind is ChangeKind.SYNC:
            self.synced = True
            return
        version, nodes = change.record.version, change.record.nodes
        known = self._records.get(version)
        ids = {node.id for node in nodes}
        left = tuple(node for node in known.nodes if node.id not in ids) if known else ()
        if change.kind is ChangeKind.DELETE:
            if known is not None:
                self._records[version] = replace(known, nodes=left)
            for id in ids:
                self._remove(id)
            if not left:
                self._records.pop(version, None)
        else:
            self._records[version] = replace(change.record, nodes=left + nodes)
            for node in nodes:
                self._put(node)
        self._note_idempotent()
        self._forget()

    def _put(self, node: Node) -> None:
        if not callable_by_rpc(node):
            self._remove(node.id)
            return
        known = self._targets.get(node.id)
        if known is not None and known.node == node:
            known.health = Health()
            return
        self._remove(node.id)
        rank = b"" if self._aperture is None else self._aperture.rank(node.id)
        target = self._targets[node.id] = Target(node, self._connect(node), rank)
        if known is not None and known.node.address != node.address:
            target.address_before = known.node.address
            if known.address_before == node.address:
                log.warning(
                    "two processes announce themselves as node %s of %s, at %s and %s in turns: give each its own id",
                    node.id, self.service, known.node.address, node.address,
                )  # fmt: skip

    def _remove(self, id: str) -> None:
        gone = self._targets.pop(id, None)
        if gone is not None:
            self._drop(gone.channel)

    def _note_idempotent(self) -> None:
        self.idempotent = frozenset(
            endpoint.name
            for record in self._records.values()
            for endpoint in record.endpoints
            if endpoint.metadata.get("idempotent") == "true"
        )

    def _forget(self) -> None:
        """Have the next pick work out its candidates anew."""
        self.is_lone = len(self._targets) < 2
        self._ready = None
        self._healthy.clear()
        self.next_due = min((t.health.until for t in self._targets.values() if t.health.ejected), default=math.inf)

    def candidates(self, filters: Sequence[Filter], tried: Collection[str] = ()) -> tuple[Node, ...]:
        """Return the nodes to choose from, none where no node fits; ejected ones come where there are no others.

        Nodes whose ids are ``tried`` come only where all were. Every filter is asked anew.
        """
        records = self._filtered(filters) if filters else None
        if records is not None:
            ready = self._work_out(records)
        else:
            if self._ready is None:
                self._ready = self._work_out(tuple(self._records.values()))
            ready = self._ready
        if not tried:
            return ready
        untried = tuple(node for node in ready if node.id not in tried)
        return untried or tuple(node for node in self._fitting(records) if node.id not in tried) or ready

    def due(self, now: float) -> list[Target]:
        """Return the ejected nodes whose time is over, for the client to probe each of them."""
        due = [target for target in self._targets.values() if target.health.due(now)]
        for target in due:
            target.health.probe()
        self._forget()
        return due

    def has_healthy_besides(self, tried: Collection[str]) -> bool:
        """Tell whether there is a node that is neither ejected nor ``tried``."""
        return any(not target.health.ejected and id not in tried for id, target in self._targets.items())

    def _work_out(self, records: Sequence[Record]) -> tuple[Node, ...]:
        parts = [self._healthy_of(record) for record in records]
        healthy = parts[0] if len(parts) == 1 else tuple(node for part in parts for node in part)
        return self._within_aperture(healthy) or self._fitting(records)

    def _within_aperture(self, nodes: tuple[Node, ...]) -> tuple[Node, ...]:
        """Return as many of the nodes as this client uses."""
        if self._aperture is None or len(nodes) <= self._aperture.size:
            return nodes
        return tuple(nsmallest(self._aperture.size, nodes, key=lambda node: self._targets[node.id].rank))

    def _healthy_of(self, record: Record) -> tuple[Node, ...]:
        """Return those nodes of a record that are not ejected; remembered for the records as the registry has them."""
        whole = self._records.get(record.version) is record
        healthy = self._healthy.get(record.version) if whole else None
        if healthy is None:
            targets = self._targets
            healthy = tuple(node for node in record.nodes if node.id in targets and not targets[node.id].health.ejected)
            if whole:
                self._healthy[record.version] = healthy
        return healthy

    def _filtered(self, filters: Sequence[Filter]) -> Sequence[Record]:
        records: Sequence[Record] = tuple(self._records.values())
        for each in filters:
            records = each(records)
        return tuple(records)

    def _fitting(self, records: Sequence[Record] | None) -> tuple[Node, ...]:
        found = tuple(self._records.values()) if records is None else records
        return tuple(node for record in found for node in record.nodes if node.id in self._targets)

    def target(self, node: Node) -> Target | None:
        """Return what is kept about ``node``; None where it is gone by now."""
        return self._targets.get(node.id)

    def release(self, target: Target, now: float) -> None:
        """Note that a probe told nothing about a node."""
        if target.health.probing:
            target.health.release(now)
            self._forget()

    def succeeded(self, target: Target) -> None:
        """Note that a node answered."""
        if target.health.succeeded():
            self._forget()

    def failed(self, target: Target, *, refused: bool, now: float) -> None:
        """Note that a node did not answer, or nonsense; leave it out where it failed too often.

        The only node never is. Where nobody listens, or who listens is stopping (``refused``), as many as it takes
        are ejected; by all other evidence never more than half of them, for the fault may be on our side.
        """
        if len(self._targets) < 2:
            return
        ejected = sum(each.health.ejected for each in self._targets.values())
        may_eject = (ejected + 1) * 2 <= len(self._targets)
        if target.health.failed(refused, now, self._random, may_eject):
            self._forget()

    def reconnect(self, target: Target, channel: Channel) -> None:
        """Let calls under way end on ``channel``, and have further ones take new connections.

        Where its address stands for several processes, another one answers there.
        """
        if target.channel is channel and self._targets.get(target.node.id) is target:
            target.channel = self._connect(target.node)
            self._drop(channel)

    def departed(self, target: Target) -> None:
        """Note that another service answers at a node's address: it is no node any more until it is announced anew."""
        if self._targets.get(target.node.id) is target:
            self._remove(target.node.id)
            self._forget()

    def returned(self, node: Node) -> None:
        """Take a node that departed for one again, where the registry still has it."""
        if node.id not in self._targets and any(node in record.nodes for record in self._records.values()):
            self._put(node)
            self._forget()

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
