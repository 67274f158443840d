"""From the record that a service registers to what each dialect publishes of it; what does not fit is refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from msgspec.structs import replace

from micro_core import ConfigError, EncodeError, Node, Record
from micro_core.address import is_loopback, split_literal
from micro_registry_mdns.wire import dns, dnssd, gomicro, txt

__all__ = ["Publication", "publications"]

_MAX_LABEL = 63
_MAX_TEXT = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One node, ready to be published."""

    record: Record
    """The service with this one node."""
    entry: gomicro.Entry | None
    """As Go Micro shows it; None where that dialect is off."""
    label: str
    """Its DNS-SD label, empty where that dialect is off or the description too large for it."""
    text: bytes
    address: str
    port: int

    @property
    def key(self) -> tuple[str, str]:
        """Service and node id."""
        return self.record.name, self.record.nodes[0].id


def publications(record: Record, dialects: Collection[str], host: str) -> Iterator[Publication]:
    """Return a publication for each node of ``record``. Raises `ConfigError` where it cannot be published."""
    _check_text("the service's name", record.name)
    _check_text(f"the version of service {record.name!r}", record.version)
    for node in record.nodes:
        yield _publication(replace(record, nodes=(node,)), node, dialects, host)


def _publication(record: Record, node: Node, dialects: Collection[str], host: str) -> Publication:
    _check_text(f"the id of a node of service {record.name!r}", node.id)
    _check_labels(record.name, node.id)
    literal = _literal_address(node)
    address, port = literal or _placeholder(node)
    description = txt.Description(
        service=record.name,
        version=record.version,
        endpoints=record.endpoints,
        metadata=node.metadata,
        service_metadata=record.metadata,
        address="" if literal else node.address,
    )
    entry = None
    if literal and gomicro.DIALECT in dialects:
        text = _go_text(description, node)
        entry = gomicro.Entry(service=record.name, id=node.id, host=host, address=address, port=port, text=text)
        _check_packet(entry)
    if not literal and dnssd.DIALECT not in dialects:
        raise ConfigError(
            f"node {node.id!r} has the address {node.address!r}, and Go Micro's dialect holds IP addresses alone: "
            "switch the dialect dns-sd on, or register an address such as 10.0.0.5:8080"
        )
    label, text = "", b""
    if dnssd.DIALECT in dialects:
        label, text = dnssd.label(record.name, node.id), dnssd.text(node.id, description)
    if len(text) > dnssd.MAX_TEXT:
        if entry is None:
            raise ConfigError(
                f"the description of node {node.id!r} has {len(text)} bytes; DNS-SD holds {dnssd.MAX_TEXT}: "
                "describe fewer endpoints or less metadata, or switch the dialect gomicro on"
            )
        label, text = "", b""
    return Publication(record=record, entry=entry, label=label, text=text, address=address, port=port)


def _check_text(what: str, value: str) -> None:
    if not value:
        raise ConfigError(f"{what} is empty; readers of multicast DNS ignore such a node")
    if len(value.encode(errors="replace")) > _MAX_TEXT or not value.isprintable():
        raise ConfigError(f"{what}, {value!r}, has to be at most {_MAX_TEXT} bytes of printable characters")


def _check_labels(service: str, id_: str) -> None:
    for what, value in (("service name", service), ("node id", id_)):
        for label in value.split("."):
            if not 0 < len(label.encode()) <= _MAX_LABEL:
                raise ConfigError(
                    f"{what} {value!r} cannot be published over multicast DNS: its part {label!r} has "
                    f"{len(label.encode())} bytes, a DNS label has 1 to {_MAX_LABEL}; choose a shorter one"
                )
    if not dns.is_name(f"{id_}.{service}.micro."):
        raise ConfigError(
            f"node id {id_!r} and service name {service!r} are together too long for a DNS name of 255 bytes"
        )


def _literal_address(node: Node) -> tuple[str, int] | None:
    """Return a node's IP address and port; None where its address is something else, for its transport to read.

    Raises `ConfigError` for an IP address at which nobody can call it.
    """
    _check_text(f"the address of node {node.id!r}", node.address)
    try:
        host, port = split_literal(node.address)
    except ConfigError:
        return None
    address = ipaddress.ip_address(host)
    if not port or address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        raise ConfigError(f"node {node.id!r} has the address {node.address!r}, at which nobody can call it")
    return str(address), port


def _placeholder(node: Node) -> tuple[str, int]:
    """Return what the records of a node say whose address is in its description; loopback for this machine alone."""
    return ("127.0.0.1" if is_loopback(node.address) else "0.0.0.0"), 1


def _go_text(description: txt.Description, node: Node) -> bytes:
    try:
        return txt.split_hex(description)
    except UnicodeEncodeError as error:
        raise ConfigError(f"the description of node {node.id!r} holds half a character: {error}") from error


def _check_packet(entry: gomicro.Entry) -> None:
    """Refuse what does not go into one datagram, with a question and an answer's pointer."""
    try:
        question = dns.Question(entry.owner, dns.PTR)
        dns.encode(dns.Message(questions=(question,), answers=entry.answer(question)))
        gomicro.announcement(entry)
    except EncodeError as error:
        raise ConfigError(f"node {entry.id!r} of service {entry.service!r} cannot be published: {error}") from error
