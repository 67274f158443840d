"""What both dialects read out of a packet: one node of one service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from micro_core import Node, Record
from micro_core.address import join_address
from micro_registry_mdns.wire.txt import Description

__all__ = ["LIFETIME", "Sighting", "sight"]

LIFETIME = 120
"""Seconds that a node is believed in without being heard of."""

_MAX_TEXT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A node as it was heard of; ``ttl`` 0 means that it goes."""

    dialect: str
    record: Record
    """The service with this one node."""
    ttl: float
    size: int = 0
    """Bytes of the description."""
    sender: str = ""
    """The host that said so; empty for what this registry publishes itself."""

    @property
    def key(self) -> tuple[str, str]:
        """Service and node id: what makes a node the same in every dialect."""
        return self.record.name, self.record.nodes[0].id


def sight(dialect: str, id_: str, host: str, port: int, description: Description, ttl: int) -> Sighting | None:
    """Return the sighting of a node, or None where it is no usable node; the description's own address goes first."""
    authority = description.address or _authority(host, port)
    texts = (description.service, description.version, id_, authority)
    if not all(text and len(text) <= _MAX_TEXT and text.isprintable() for text in texts):
        return None
    node = Node(id=id_, address=authority, metadata=description.metadata)
    record = Record(
        name=description.service,
        version=description.version,
        nodes=(node,),
        endpoints=description.endpoints,
        metadata=description.service_metadata,
    )
    return Sighting(dialect=dialect, record=record, ttl=min(ttl, LIFETIME), size=description.size)


def _authority(host: str, port: int) -> str:
    """Return host and port as an address, an empty text where nobody can be called there."""
    address = ipaddress.ip_address(host)
    return "" if not port or address.is_unspecified or address.is_multicast else join_address(host, port)
