"""Go Micro's own dialect: the records of docs/wire.md §1, written and read without I/O.

Probes are left out: they would be queries from port 5353 (docs/wire.md §1.9), and nobody reads Go's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from micro_core import DecodeError
from micro_registry_mdns.wire import dns, txt
from micro_registry_mdns.wire.sighting import Sighting, sight

__all__ = ["LISTING", "Entry", "Zone", "announcement", "goodbye", "listed", "listing_query", "query", "read"]

DIALECT = "gomicro"
LISTING = "_services"
TTL = 120
_DOMAIN = ".micro."
_ENUMERATION = "_services._dns-sd._udp.micro."
_LISTING_PORT = 9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One instance as it is published: a node, or a line of the listing of services."""

    service: str
    id: str
    host: str
    address: str
    port: int
    text: bytes
    """The rdata of the TXT record."""

    @classmethod
    def listing(cls, service: str, host: str) -> Entry:
        """Return the entry that lists ``service``: address, port and text are placeholders (docs/wire.md §1.4)."""
        return cls(service=LISTING, id=service, host=host, address="0.0.0.0", port=_LISTING_PORT, text=b"")

    @property
    def owner(self) -> str:
        """The name that the service is asked for."""
        return self.service + _DOMAIN

    @property
    def instance(self) -> str:
        """The name of this instance."""
        return f"{self.id}.{self.owner}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine may hear of it."""
        return ipaddress.ip_address(self.address).is_loopback

    def answer(self, question: dns.Question) -> tuple[dns.ResourceRecord, ...]:
        """Return the records that answer ``question``, none where it is about something else (docs/wire.md §1.2)."""
        if question.name not in (self.owner, self.instance, self.host):
            return ()
        pointer, service, address, text = self._records(TTL)
        by_type = {dns.ANY: (service, address, text), dns.SRV: (service, address), dns.TXT: (text,)}
        by_type[address.type] = (address,)
        if question.name == self.owner and question.type in (dns.PTR, dns.ANY):
            return pointer, service, address, text
        if question.name == self.instance:
            return by_type.get(question.type, ())
        if question.name == self.host and question.type == address.type and self.service != LISTING:
            return (address,)
        return ()

    def unsolicited(self, ttl: int) -> tuple[dns.ResourceRecord, ...]:
        """Return the records of an announcement, or with TTL 0 of a goodbye; the pointer is not among them."""
        return self._records(ttl)[1:]

    def _records(
        self, ttl: int
    ) -> tuple[dns.ResourceRecord, dns.ResourceRecord, dns.ResourceRecord, dns.ResourceRecord]:
        type_ = dns.AAAA if ":" in self.address else dns.A
        return (
            dns.ResourceRecord(self.owner, dns.PTR, ttl, self.instance),
            dns.ResourceRecord(self.instance, dns.SRV, ttl, (10, 1, self.port, self.host)),
            dns.ResourceRecord(self.host, type_, ttl, self.address),
            dns.ResourceRecord(self.instance, dns.TXT, ttl, self.text),
        )


# ------------------------------------------------------------------------------------------------------- answering


class Zone:
    """The entries that this process publishes, and the answers that follow."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._entries: dict[str, dict[str, Entry]] = {}

    def put(self, entry: Entry) -> None:
        """Publish an entry, or replace it."""
        self._entries.setdefault(entry.service, {})[entry.id] = entry

    def remove(self, entry: Entry) -> None:
        """Take an entry back; its service is listed no longer when it was the last."""
        entries = self._entries.get(entry.service, {})
        entries.pop(entry.id, None)
        if not entries:
            self._entries.pop(entry.service, None)

    def answers(self, message: dns.Message, *, port: int, local: bool) -> Iterator[bytes]:
        """Return the packets, one for each instance, to be sent back to where ``message`` came from.

        ``port`` is the asker's; ``local``: whether the asker is on this machine.
        """
        for question in questions(message, port):
            id_ = message.id if question.unicast else 0
            for records in self._answer(question, local=local):
                flags = dns.RESPONSE | dns.AUTHORITATIVE
                yield dns.encode(dns.Message(id=id_, flags=flags, questions=(question,), answers=records))

    def _answer(self, question: dns.Question, *, local: bool) -> Iterator[tuple[dns.ResourceRecord, ...]]:
        visible = {
            service: shown
            for service, entries in self._entries.items()
            if (shown := [entry for entry in entries.values() if local or not entry.is_loopback])
        }
        if question.name == _ENUMERATION:
            if visible and question.type in (dns.PTR, dns.ANY):
                for service in (*visible, LISTING):
                    yield (dns.ResourceRecord(_ENUMERATION, dns.PTR, TTL, service + _DOMAIN),)
            return
        seen = set()
        for service, entries in visible.items():
            for entry in (*entries, Entry.listing(service, self._host)):
                records = entry.answer(question)
                if records and records not in seen:
                    seen.add(records)
                    yield records


def questions(message: dns.Message, port: int) -> Sequence[dns.Question]:
    """Return what is to be answered of a message from ``port``.

    What comes from 5353 and what is itself a response gets no answer, or two responders would answer each other for
    ever (docs/wire.md §1.9).
    """
    if message.is_response or not message.is_plain or port == 5353:
        return ()
    return message.questions[:8]


def announcement(entry: Entry) -> bytes:
    """Return the packet that tells everybody of ``entry``; it holds no question (docs/wire.md §1.8)."""
    return dns.encode(dns.Message(flags=dns.RESPONSE, answers=entry.unsolicited(TTL)))


def goodbye(entry: Entry) -> bytes:
    """Return the packet that takes ``entry`` back."""
    return dns.encode(dns.Message(flags=dns.RESPONSE, answers=entry.unsolicited(0)))


# -------------------------------------------------------------------------------------------------- asking, reading


def query(service: str, id_: int) -> bytes:
    """Return the question for the nodes of ``service``; ``id_`` is not zero (docs/wire.md §1.5)."""
    return dns.encode(dns.Message(id=id_, questions=(dns.Question(service + _DOMAIN, dns.PTR),)))


def listing_query(id_: int) -> bytes:
    """Return the question for the names of all services."""
    return query(LISTING, id_)


def listed(message: dns.Message) -> Iterator[str]:
    """Return the names of services that an answer to the listing query holds (docs/wire.md §1.4)."""
    for record in (*message.answers, *message.additionals):
        if record.type == dns.PTR and record.name == LISTING + _DOMAIN and record.ttl and isinstance(record.data, str):
            name = record.data.removesuffix(f".{LISTING}{_DOMAIN}")
            if name != record.data and name.isprintable() and dns.is_name(name + _DOMAIN):
                yield name


def read(message: dns.Message, quota: txt.Quota | None = None) -> Iterator[Sighting]:
    """Return the nodes in ``message``; what is incomplete or malformed is passed over.

    Addresses count only where they come in the packet of their SRV record: the listing's ``0.0.0.0`` has the same
    owner as the real ones (docs/wire.md §1.4).
    """
    records = [*message.answers, *message.additionals]
    texts = {record.name: record.data for record in records if record.type == dns.TXT}
    hosts = {record.name: record.data for record in records if record.type == dns.AAAA}
    hosts |= {record.name: record.data for record in records if record.type == dns.A}
    quota = quota or txt.Quota()
    for record in records:
        if not isinstance(record.data, tuple) or not record.name.endswith(_DOMAIN) or quota.is_spent:
            continue
        text, (_, _, port, target) = texts.pop(record.name, None), record.data
        host = hosts.get(target)
        if text and isinstance(text, bytes) and isinstance(host, str):
            found = _node(record, host, port, text, quota)
            if found is not None:
                yield found


def _node(record: dns.ResourceRecord, host: str, port: int, text: bytes, quota: txt.Quota) -> Sighting | None:
    try:
        description = txt.join_hex(text)
    except DecodeError:
        quota.spend()
        return None
    quota.spend(description.size)
    suffix = f".{description.service}{_DOMAIN}"
    if not description.service or not record.name.endswith(suffix):
        return None
    return sight(DIALECT, record.name.removesuffix(suffix), host, port, description, record.ttl)
