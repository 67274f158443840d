"""What both dialects read out of a packet: one node of one service."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from micro_core import Node, Record
from micro_registry_mdns.wire.txt import Description

__all__ = ["LIFETIME", "Sighting", "sight"]

LIFETIME = 120
"""Seconds that a node is believed in without being heard of."""

_MAX_ID = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A node as it was heard of; ``ttl`` 0 means that it goes."""

    dialect: str
    record: Record
    """The service with this one node."""
    ttl: float
    size: int = 0
    """Bytes of the description."""

    @property
    def key(self) -> tuple[str, str]:
        """Service and node id: what makes a node the same in every dialect."""
        return self.record.name, self.record.nodes[0].id


def sight(dialect: str, id_: str, host: str, port: int, description: Description, ttl: int) -> Sighting | None:
    """Return the sighting of a node, or None where it is no usable node."""
    address = ipaddress.ip_address(host)
    if not port or address.is_unspecified or address.is_multicast:
        return None
    texts = (description.service, description.version, id_)
    if not all(text and len(text) <= _MAX_ID and text.isprintable() for text in texts):
        return None
    authority = f"[{host}]:{port}" if address.version == 6 else f"{host}:{port}"
    node = Node(id=id_, address=authority, metadata=description.metadata)
    record = Record(
        name=description.service,
        version=description.version,
        nodes=(node,),
        endpoints=description.endpoints,
        metadata=description.service_metadata,
    )
    return Sighting(dialect=dialect, record=record, ttl=min(ttl, LIFETIME), size=description.size)
