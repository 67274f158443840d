"""The registry's contract: who is there, and where."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from types import TracebackType
from typing import ClassVar, Self

import msgspec

__all__ = ["Change", "ChangeKind", "Endpoint", "Node", "Record", "Registry", "Value"]


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
    """``host:port``, the host a literal IP address (an IPv6 one in brackets)."""
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
    """What happened to the nodes of a record."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a watch: these nodes came, changed or went.

    Create and update mean the same to a reader, "this is how the node is now"; they may come twice.
    """

    kind: ChangeKind
    record: Record
    """The nodes concerned, not all that the service has."""


class Registry(ABC):
    """Who is there, and where. An async context manager; closing takes back what this object registered.

    No answer and an empty answer differ: a registry that cannot be reached raises `RegistryError`, one that knows of no
    such service returns an empty sequence.
    """

    name: ClassVar[str]
    """The entry point's name, published in the metadata of nodes."""

    @abstractmethod
    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        """Publish the nodes of ``record`` for ``ttl`` seconds (0: until deregistered).

        Registering a node again renews it, and publishes what changed. Returns when others can find the node.

        Raises `ConfigError` where the record cannot be published (a name too long, an address that is no literal), and
        `RegistryError` where the registry does not answer.
        """

    @abstractmethod
    async def deregister(self, record: Record) -> None:
        """Take back the nodes of ``record``; unknown ones are no error. Raises `RegistryError`."""

    @abstractmethod
    async def lookup(self, name: str) -> Sequence[Record]:
        """Return the records of a service, one for each version, never one without nodes.

        May return as soon as one node is known, the others following through `watch`. Raises `RegistryError`.
        """

    @abstractmethod
    async def services(self) -> Sequence[str]:
        """Return the names of all known services, sorted, each once. Raises `RegistryError`."""

    @abstractmethod
    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Follow one service, or all: what changes from the moment the context is entered, and perhaps what is there.

        Entering raises `RegistryError`, and so does the iterator when the registry is lost: watch again then.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Deregister what is left and let go of everything. Closing twice is fine; use after that raises `Closed`."""

    async def __aenter__(self) -> Self:
        """Open what the registry needs; raises `RegistryError`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
