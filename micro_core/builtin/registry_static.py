"""The static registry: nodes that are written down, for where multicast does not reach (docs/registry-static.md)."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import anyio
import msgspec

from micro_core.address import split_reachable
from micro_core.errors import Closed, ConfigError
from micro_core.hookspecs import hookimpl
from micro_core.registry import SYNC, Change, ChangeKind, Endpoint, Node, Record, Registry

__all__ = ["StaticRegistry", "make_registry", "read_addresses", "read_file"]

log = logging.getLogger("micro.registry.static")

VERSION = "latest"
"""Of records that name none; Go Micro's default."""

EXAMPLES = "static://?greeter=10.0.0.5:8080,10.0.0.6:8080 or static:///etc/micro/nodes.toml"


class StaticRegistry(Registry):
    """Knows ``records`` and never anything else; what is registered is accepted and ignored."""

    name = "static"

    def __init__(self, records: Sequence[Record], *, source: str = "static") -> None:
        self._records = tuple(record for record in records if record.nodes)
        self._source = source
        self._closed = anyio.Event()

    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        self._check_open()
        log.debug("%s takes no registrations: %s is found only where it is written down", self._source, record.name)

    async def deregister(self, record: Record) -> None:
        self._check_open()

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._watch(name)

    @asynccontextmanager
    async def _watch(self, name: str | None) -> AsyncIterator[AsyncIterator[Change]]:
        self._check_open()
        yield _Written([record for record in self._records if name in (None, record.name)], self._closed)

    async def aclose(self) -> None:
        self._closed.set()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise Closed("the static registry was closed")

    def __repr__(self) -> str:
        state = "closed" if self._closed.is_set() else "open"
        return f"<StaticRegistry {state}, {len(self._records)} records of {self._source}>"


class _Written(AsyncIterator[Change]):
    """A watch of what never changes."""

    def __init__(self, records: Iterable[Record], closed: anyio.Event) -> None:
        self._untold = [*(Change(kind=ChangeKind.CREATE, record=record) for record in records), SYNC]
        self._closed = closed

    async def __anext__(self) -> Change:
        if not self._untold or self._closed.is_set():
            await self._closed.wait()
            raise Closed("the static registry was closed")
        return self._untold.pop(0)


def read_addresses(options: Mapping[str, str]) -> list[Record]:
    """Return a record for each service in ``options``, name to ``host:port,…``; the nodes have no metadata.

    Raises `ConfigError` for an address that cannot be connected to.
    """
    records = []
    for service, addresses in options.items():
        listed = [address.strip() for address in addresses.split(",")]
        if not service:
            raise ConfigError(f"static registry: an address of {addresses!r} has no service; valid is {EXAMPLES}")
        nodes = tuple(
            _node(_WrittenNode(address=address), service, "static registry") for address in dict.fromkeys(listed)
        )
        records.append(Record(name=service, version=VERSION, nodes=nodes))
    return records


class _WrittenNode(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    address: str
    id: str = ""
    metadata: dict[str, str] = {}


class _WrittenEndpoint(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    metadata: dict[str, str] = {}


class _WrittenService(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    version: str = VERSION
    metadata: dict[str, str] = {}
    nodes: list[_WrittenNode]
    endpoints: list[_WrittenEndpoint] = []


class _File(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    service: list[_WrittenService] = []


def read_file(path: Path) -> list[Record]:
    """Return the records of a TOML file (docs/registry-static.md). Raises `ConfigError`, which names file and place."""
    where = f"static registry: {path}"
    try:
        written = msgspec.convert(tomllib.loads(path.read_text("utf-8")), _File)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror}; it shall be a TOML file of services") from error
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ConfigError(f"{where} is not valid: {error}; docs/registry-static.md has the form") from error
    records: dict[tuple[str, str], Record] = {}
    for service in written.service:
        if not service.name:
            raise ConfigError(f"{where}: a service has an empty name")
        record = _record(service, where)
        if records.setdefault((record.name, record.version), record) is not record:
            raise ConfigError(
                f"{where}: service {record.name!r} version {record.version!r} is there twice; join the nodes"
            )
    return list(records.values())


def _record(service: _WrittenService, where: str) -> Record:
    nodes = tuple(_node(node, service.name, where) for node in service.nodes)
    ids = [node.id for node in nodes]
    if twice := next((id for id in ids if ids.count(id) > 1), None):
        raise ConfigError(
            f"{where}: node {twice!r} of service {service.name!r} is there twice; give each an id of its own"
        )
    return Record(
        name=service.name,
        version=service.version,
        nodes=nodes,
        endpoints=tuple(Endpoint(name=endpoint.name, metadata=endpoint.metadata) for endpoint in service.endpoints),
        metadata=service.metadata,
    )


def _node(written: _WrittenNode, service: str, where: str) -> Node:
    try:
        if not _is_of_another_kind(written.address):
            split_reachable(written.address)
    except ConfigError as error:
        raise ConfigError(f"{where}: service {service!r}: {error.detail}") from error
    return Node(id=written.id or f"{service}-{written.address}", address=written.address, metadata=written.metadata)


def _is_of_another_kind(address: str) -> bool:
    """Tell whether an address is no host and port, mistyped or not, but what another transport connects to."""
    try:
        ip_address(address)
    except ValueError:
        return bool(address) and ":" not in address
    return False


@hookimpl
def make_registry(address: Sequence[str], path: str, options: Mapping[str, str]) -> Registry:
    """Return a registry of what the configuration string names."""
    if address:
        raise ConfigError(f"static registry: {','.join(address)} belongs to no service; valid is {EXAMPLES}")
    if not path and not options:
        raise ConfigError(f"static registry: no nodes are named; valid is {EXAMPLES}")
    if path and options:
        raise ConfigError(f"static registry: a file ({path}) or services ({', '.join(options)}), not both")
    records = read_file(Path(path)) if path else read_addresses(options)
    return StaticRegistry(records, source=path or "the configuration")
