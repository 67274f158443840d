"""The registry's contract: who is there, and where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import TracebackType
from typing import ClassVar, Final, Self

import msgspec
from msgspec.structs import replace

from micro_core.errors import RegistryError

__all__ = ["SYNC", "Change", "ChangeKind", "Endpoint", "Node", "Record", "Registry", "Value", "joined"]


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """The description of one field or payload (docs/wire.md §3.10)."""

    name: str
    type: str
    values: tuple[Value, ...] = ()


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a service offers under one name; subscribers are listed too."""

    name: str
    request: Value | None = None
    response: Value | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One process that answers for a service."""

    id: str
    address: str
    """What its transport connects to, and nobody else reads: for ``http`` a ``host:port``, the host an IP address (an
    IPv6 one in brackets) or a name that is resolved at each connect; for a message bus a subject."""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.id, self.address))


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A service at one version with its nodes: what Go Micro calls ``registry.Service``."""

    name: str
    version: str
    nodes: tuple[Node, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class ChangeKind(StrEnum):
    """What a watch tells: what happened to the nodes of a record, or that it has told all there was."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    SYNC = "sync"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a watch: these nodes came, changed or went; or `SYNC`.

    Create and update mean the same to a reader, "this is how the node is now"; they may come twice.
    """

    kind: ChangeKind
    record: Record
    """The nodes concerned, not all that the service has; none with `SYNC`."""


SYNC: Final = Change(kind=ChangeKind.SYNC, record=Record(name="", version=""))
"""That was all there is: a watch tells it once, after what it found and before what changes."""


class Registry(ABC):
    """Who is there, and where. An async context manager; closing takes back what this object registered.

    No answer and an empty answer differ: a registry that cannot be reached raises `RegistryError`, one that knows of no
    such service returns an empty sequence. Errors of a library underneath are raised as one of ours
    (``raise RegistryError(...) from error``); a wrong password, or anything else that waiting does not mend, as
    ``RegistryError(..., permanent=True)``.

    Names, versions, node ids and metadata are any printable text; a registry that cannot hold one, or not of that
    length, raises `ConfigError` from `register` and says its limit. Lookups and watches are for exactly the name given:
    ``a`` finds neither ``a-b`` nor ``a/b``. A node's address is carried unread.

    Times are the registry's own to bound: a server that does not answer is a `RegistryError` after some seconds. The
    host bounds each of its calls besides (`micro_core.registration`), so that none of them holds up a start or a stop.
    """

    name: ClassVar[str]
    """The entry point's name, published in the metadata of nodes."""

    @property
    def address_towards(self) -> str:
        """The IP address of the server, where there is one: who listens on all interfaces is told to others by the
        address on the way there. Empty, as by default, where there is no server or it is known by a name alone.
        """
        return ""

    @abstractmethod
    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        """Publish the nodes of ``record``, all of them, for ``ttl`` seconds (0: until deregistered).

        A record without nodes publishes nothing and is no error.

        A registry that counts otherwise rounds up, to whole seconds or to its server's least, and keeps fractions from
        becoming 0. Registering a node again renews it with the new ``ttl`` and publishes what changed, its version
        included; a node that has run out is registered anew. Renewing is the caller's job: a registry that renews by
        itself would keep the nodes of a service that hangs. Returns when others can find the nodes.

        Raises `ConfigError` where the record cannot be published, and `RegistryError` where the registry does not
        answer. A cancelled call may or may not have registered the nodes; registering or deregistering them works.
        """

    @abstractmethod
    async def deregister(self, record: Record) -> None:
        """Take back those nodes of ``record`` that this object registered.

        Unknown ones, and those of another registry object, are left alone and are no error. Raises `RegistryError`.
        """

    @abstractmethod
    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Follow one service, or all.

        Tells first what is there, a create for each node, then `SYNC`, then what changes. A node that moves to another
        version is deleted from the old record and created in the new one. There are no gaps: a watch that has lost
        its server comes back by itself with whatever it missed, or raises; it neither ends nor falls silent. Its host
        then watches again, and compares.

        A reader that is slow may miss what has changed again meanwhile, never how things are now. A cancelled read
        takes nothing away: the next one goes on. Closing the registry raises `Closed` in a watch that is being read.

        Entering raises `RegistryError`, and so does the iterator when the registry is lost.
        """

    async def lookup(self, name: str) -> Sequence[Record]:
        """Return the records of a service, all of its nodes, one record for each version, never one without nodes.

        As fresh as can be: what was registered before the call is found, and what has gone is not. Raises
        `RegistryError`. Unless overridden, it reads a watch up to its `SYNC`.
        """
        nodes: dict[tuple[str, str], Record] = {}
        async with self.watch(name) as changes:
            async for change in changes:
                if change.kind is ChangeKind.SYNC:
                    return joined(nodes.values())
                for node in change.record.nodes:
                    nodes.pop((change.record.version, node.id), None)
                    if change.kind is not ChangeKind.DELETE:
                        nodes[change.record.version, node.id] = replace(change.record, nodes=(node,))
        raise RegistryError(f"registry {self.name}: its watch of {name!r} ended before it had told what is there")

    async def services(self) -> Sequence[str]:
        """Return the names of all services that have a node, sorted, each once. Raises `RegistryError`.

        As fresh and as whole as `lookup`. Unless overridden, it reads a watch of everything up to its `SYNC`.
        """
        nodes: set[tuple[str, str, str]] = set()
        async with self.watch() as changes:
            async for change in changes:
                if change.kind is ChangeKind.SYNC:
                    return sorted({name for name, _, _ in nodes})
                concerned = {(change.record.name, change.record.version, node.id) for node in change.record.nodes}
                nodes = nodes - concerned if change.kind is ChangeKind.DELETE else nodes | concerned
        raise RegistryError(f"registry {self.name}: its watch of all services ended before it had told what is there")

    @abstractmethod
    async def aclose(self) -> None:
        """Deregister what is left and let go of everything, within seconds, whether or not a server answers.

        What cannot be taken back runs out by its ttl; that is logged and not raised. Closing twice is fine; use after
        that raises `Closed`.
        """

    async def __aenter__(self) -> Self:
        """Open what the registry needs of this machine.

        A server that is down is no error here but of the call that needs it: services start without their registry.
        Raises `ConfigError`, and `RegistryError` where the registry can never work here.
        """
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def joined(records: Iterable[Record]) -> list[Record]:
    """Return one record for each name and version with the nodes of all of that version; the rest is the first's."""
    found: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        found.setdefault((record.name, record.version), []).append(record)
    return [
        replace(same[0], nodes=tuple(node for record in same for node in record.nodes)) if len(same) > 1 else same[0]
        for _, same in sorted(found.items())
    ]
