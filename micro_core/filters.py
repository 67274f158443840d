"""Ready-made filters for `CallOptions.filters`: which of a service's nodes may be called (docs/selector.md)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from micro_core.client import Filter
from micro_core.registry import Record

__all__ = ["endpoint", "label", "version"]


def version(wanted: str) -> Filter:
    """Return a filter that leaves the nodes of one version."""
    return _OfVersion(wanted)


def endpoint(name: str) -> Filter:
    """Return a filter that leaves the nodes that list the endpoint ``name``, such as ``Greeter.Hello``."""
    return _WithEndpoint(name)


def label(key: str, value: str) -> Filter:
    """Return a filter that leaves the nodes whose metadata says ``value`` under ``key``."""
    return _WithLabel(key, value)


# Values, so that equal filters made for two calls share what a client has worked out for them.


class _OfVersion(msgspec.Struct, frozen=True):
    wanted: str

    def __call__(self, records: Sequence[Record]) -> Sequence[Record]:
        return [record for record in records if record.version == self.wanted]

    def __repr__(self) -> str:
        return f"version({self.wanted!r})"


class _WithEndpoint(msgspec.Struct, frozen=True):
    name: str

    def __call__(self, records: Sequence[Record]) -> Sequence[Record]:
        return [record for record in records if any(each.name == self.name for each in record.endpoints)]

    def __repr__(self) -> str:
        return f"endpoint({self.name!r})"


class _WithLabel(msgspec.Struct, frozen=True):
    key: str
    value: str

    def __call__(self, records: Sequence[Record]) -> Sequence[Record]:
        return [
            replace(record, nodes=tuple(node for node in record.nodes if node.metadata.get(self.key) == self.value))
            for record in records
        ]

    def __repr__(self) -> str:
        return f"label({self.key!r}, {self.value!r})"
