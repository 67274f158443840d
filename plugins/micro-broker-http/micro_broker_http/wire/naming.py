"""How a subscription appears in the registry: names, node ids, metadata (docs/wire.md §4.2)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from micro_broker_http.wire.envelope import Form
from micro_core import ConfigError, Node, Record

__all__ = ["BROADCAST", "Subscriber", "lasting_id", "node_id", "records", "subscribers"]

BROADCAST = "ff.http.broadcast"
"""The version under which subscriptions without a queue are registered."""
_LABEL = 63
_NAME = 255
_PROTOCOL = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscriber:
    """A subscription of any peer, as the registry shows it."""

    id: str
    topic: str
    queue: str
    """Empty where every subscriber gets all."""
    address: str
    secure: bool
    ours: bool
    """Whether it takes batches (docs/protocol.md §1)."""
    form: Form
    """Which form a Go peer takes; the older one where the node is under both names."""
    returns: bool
    """Whether it comes back under its id: what is published meanwhile is kept for a while."""
    subscription: str
    """The id of the subscription; empty for one of ours that was written down, which is found by topic and queue."""

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self.secure else 'http'}://{self.address}"

    @property
    def query(self) -> dict[str, str]:
        """What a post to it says for whom it is."""
        return {"id": self.subscription} if self.subscription else {"topic": self.topic, "queue": self.queue}


def node_id(topic: str, unique: str) -> str:
    """Return ``<topic>-<unique>``.

    Raises `ConfigError` where that cannot be a DNS name: dots of the topic separate its labels (docs/wire.md §1.1), and
    each label has at most 63 bytes.
    """
    if not topic or not topic.isprintable():
        raise ConfigError(f"topic {topic!r} cannot be subscribed to: a topic is a text without control characters")
    labels = f"{topic}-{unique}".encode("utf-8", "surrogatepass").split(b".")
    room = _LABEL - len(unique) - 1
    if not all(labels) or topic.endswith("."):
        raise ConfigError(f"topic {topic!r} cannot be subscribed to: a part between its dots is empty")
    if max(map(len, labels)) > _LABEL:
        raise ConfigError(
            f"topic {topic!r} cannot be subscribed to: it is part of a DNS name, where the last dot-separated part "
            f"may have {room} bytes and every other {_LABEL}"
        )
    if sum(len(label) + 1 for label in labels) + len(f"{Form.V1.value}.micro.") + 1 > _NAME:
        raise ConfigError(f"topic {topic!r} cannot be subscribed to: it is part of a DNS name, which has {_NAME} bytes")
    return f"{topic}-{unique}"


def lasting_id(topic: str, *named: str) -> str:
    """Return the node id of a subscription that is known by names, the same after a restart. Raises `ConfigError`."""
    return node_id(topic, hashlib.sha256("\0".join(named).encode()).hexdigest()[:10])


def records(
    *, id: str, topic: str, queue: str, address: str, secure: bool = False, returns: bool = False
) -> list[Record]:
    """Return what a subscription registers: the same node under both names."""
    metadata = {
        "broker": "http",
        "micro": _PROTOCOL,
        "secure": "true" if secure else "false",
        "subscription": id,
        "topic": topic,
    }
    if returns:
        metadata["returns"] = "true"
    node = Node(id=id, address=address, metadata=metadata)
    return [Record(name=form.value, version=queue or BROADCAST, nodes=(node,)) for form in Form]


def subscribers(record: Record) -> list[Subscriber]:
    """Return the subscribers that a record of either name holds; nodes of other brokers are left out."""
    form = Form(record.name)
    found = []
    for node in record.nodes:
        topic = node.metadata.get("topic", "")
        ours = _speaks_batches(node.metadata.get("micro", ""))
        if node.metadata.get("broker") == "http" and topic:
            found.append(
                Subscriber(
                    id=node.id,
                    topic=topic,
                    queue="" if record.version == BROADCAST else record.version,
                    address=node.address,
                    secure=node.metadata.get("secure") == "true",
                    ours=ours,
                    form=form,
                    returns=ours and node.metadata.get("returns") == "true",
                    subscription=node.metadata.get("subscription", "") if ours else node.id,
                )
            )
    return found


def _speaks_batches(version: str) -> bool:
    return version.isascii() and version.isdigit() and int(version[:9]) >= int(_PROTOCOL)
