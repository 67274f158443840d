"""The nodes that were heard of, in whatever dialect, and what changes as sightings come in; no I/O, no clock."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from micro_core import Change, ChangeKind, Record
from micro_core.registry import joined
from micro_registry_mdns.wire.sighting import Sighting

__all__ = ["Catalogue"]

_log = logging.getLogger("micro.registry.mdns")

_MAX_NODES = 10_000
_MAX_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class _Known:
    record: Record
    until: dict[str, float] = field(default_factory=dict)
    """For each dialect, when silence ends belief."""
    said: dict[str, Record] = field(default_factory=dict)
    """For each dialect, what it said last."""
    heard: float = -math.inf
    size: int = 0
    sender: str = ""

    @property
    def is_own(self) -> bool:
        """Whether this registry publishes it, for as long as it does."""
        return math.inf in self.until.values()


class Catalogue:
    """Nodes by service and id, so many and with descriptions of so many bytes. Times are of any one monotonic clock."""

    def __init__(self, limit: int = _MAX_NODES, size_limit: int = _MAX_BYTES) -> None:
        self._limit = limit
        self._size_limit = size_limit
        self._count = 0
        self._size = 0
        self._is_full = False
        self._services: dict[str, dict[str, _Known]] = {}
        self._told: dict[str, dict[tuple[str, str], None]] = {}
        """For each sender the nodes that it told of last, the one that was heard of longest ago first."""

    def add(self, sighting: Sighting, now: float) -> Sequence[Change]:
        """Take in a sighting and return what changes by it."""
        if not sighting.ttl:
            return self.remove(*sighting.key)
        service, id_ = sighting.key
        known = self._services.get(service, {}).get(id_)
        changes: Sequence[Change] = ()
        if known is None:
            changes = self._make_room(sighting)
            if not self._has_room(sighting):
                return changes
            known = self._services.setdefault(service, {})[id_] = _Known(sighting.record)
            self._count += 1
            changes = (*changes, _change(ChangeKind.CREATE, sighting.record))
        elif known.said.get(sighting.dialect) != sighting.record != known.record:
            changes = _difference(known.record, sighting.record)
            known.record = sighting.record
        known.said[sighting.dialect] = sighting.record
        known.until[sighting.dialect] = now + sighting.ttl
        known.heard = now
        self._note_teller(known, sighting)
        self._size += sighting.size - known.size
        known.size = sighting.size
        return changes

    def remove(self, service: str, id_: str) -> Sequence[Change]:
        """Forget a node in every dialect."""
        nodes = self._services.get(service, {})
        known = nodes.pop(id_, None)
        if not nodes:
            self._services.pop(service, None)
        if known is None:
            return ()
        self._count -= 1
        self._size -= known.size
        self._forget_teller(known, (service, id_))
        return (_change(ChangeKind.DELETE, known.record),)

    def heard_at(self, service: str, id_: str) -> float:
        """Return when a node was last heard of, minus infinity where it is not known."""
        known = self._services.get(service, {}).get(id_)
        return -math.inf if known is None else known.heard

    def _make_room(self, sighting: Sighting) -> Sequence[Change]:
        """Forget, of the sender with the most nodes, those that were heard of longest ago.

        So whoever floods pushes out its own, and each that is new finds a place.
        """
        changes: list[Change] = []
        while self._told and not self._has_room(sighting):
            loudest = max(self._told.values(), key=len)
            changes += self.remove(*next(iter(loudest)))
        return changes

    def _has_room(self, sighting: Sighting) -> bool:
        has_room = self._count < self._limit and self._size + sighting.size <= self._size_limit
        if not has_room and not self._is_full:  # one line, not one for each node
            _log.warning("the catalogue is full with %d nodes; those heard of longest ago make room", self._count)
        self._is_full = self._is_full or not has_room
        return has_room

    def _note_teller(self, known: _Known, sighting: Sighting) -> None:
        self._forget_teller(known, sighting.key)
        if sighting.sender and not known.is_own:
            known.sender = sighting.sender
            self._told.setdefault(sighting.sender, {})[sighting.key] = None

    def _forget_teller(self, known: _Known, key: tuple[str, str]) -> None:
        told = self._told.get(known.sender, {})
        told.pop(key, None)
        if not told:
            self._told.pop(known.sender, None)
        known.sender = ""

    def expire(self, now: float) -> Sequence[Change]:
        """Forget the nodes that no dialect has heard of for their lifetime."""
        silent = [
            (service, id_)
            for service, nodes in self._services.items()
            for id_, known in nodes.items()
            if max(known.until.values()) <= now
        ]
        return [change for key in silent for change in self.remove(*key)]

    def knows(self, service: str, id_: str) -> bool:
        """Return whether a node is known."""
        return id_ in self._services.get(service, {})

    def forget(self, service: str | None) -> None:
        """Forget the nodes of a service, or of all, that are not this registry's own; nobody watches them."""
        for name in [service] if service is not None else list(self._services):
            for id_, known in list(self._services.get(name, {}).items()):
                if not known.is_own:
                    self.remove(name, id_)

    def records(self, service: str, then: float = -math.inf) -> list[Record]:
        """Return what was heard of a service at ``then`` or later, a record for each version."""
        nodes = self._services.get(service, {}).values()
        return joined(known.record for known in nodes if known.heard >= then or known.is_own)

    def heard_since(self, service: str, then: float) -> bool:
        """Return whether any node of a service was heard of at ``then`` or later."""
        nodes = self._services.get(service, {}).values()
        return any(known.heard >= then or known.is_own for known in nodes)

    def services_since(self, then: float) -> set[str]:
        """Return the services of which a node was heard of at ``then`` or later."""
        return {service for service in self._services if self.heard_since(service, then)}

    def changes_to_now(self, service: str | None) -> Iterator[Change]:
        """Return the events that lead from nothing to what is known of one service, or of all."""
        for name in [service] if service is not None else list(self._services):
            for known in self._services.get(name, {}).values():
                yield _change(ChangeKind.CREATE, known.record)


def _difference(old: Record, new: Record) -> Sequence[Change]:
    if old.version == new.version:
        return (_change(ChangeKind.UPDATE, new),)
    return (_change(ChangeKind.DELETE, old), _change(ChangeKind.CREATE, new))


def _change(kind: ChangeKind, record: Record) -> Change:
    return Change(kind=kind, record=record)
