"""The DNS-SD dialect of docs/protocol.md §6: labels, TXT records and reading, without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from micro_core import DecodeError, Node, Record
from micro_registry_mdns.wire import dns, txt
from micro_registry_mdns.wire.sighting import LIFETIME, Sighting, sight

__all__ = ["MAX_TEXT", "SERVICE_TYPE", "Reader", "answer", "label", "query", "subtype", "text"]

DIALECT = "dns-sd"
SERVICE_TYPE = "_micro._tcp.local."
_SUB = f"_sub.{SERVICE_TYPE}"
MAX_TEXT = 8_000
_PIECE = 250
_PATIENCE = 1.0  # seconds in which the records of an instance have to come together
_MAX_PARTS = 256
_MAX_KNOWN = 10_000
_MAX_READ = 2 * MAX_TEXT
_MAX_SHOWN = 200


def label(service: str, id_: str) -> str:
    """Return the instance label of a node, at most 63 bytes."""
    if id_.startswith(f"{service}-") and "." not in id_:
        return id_
    return _unique(id_, f"{service}\0{id_}")


def _unique(readable: str, whole: str) -> str:
    """Return one label that begins as ``readable`` does and differs where ``whole`` does."""
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{readable.replace('.', '-').encode()[:46].decode(errors='ignore')}-{digest}"


def text(id_: str, description: txt.Description) -> bytes:
    """Return the rdata of a node's TXT record; it may be longer than `MAX_TEXT`."""
    shown = (("txtvers", "1"), ("id", id_), ("service", description.service), ("version", description.version))
    pieces = [f"{key}=".encode() + value.encode()[:_MAX_SHOWN] for key, value in shown]
    packed = txt.deflate(description)
    for number, at in enumerate(range(0, len(packed), _PIECE)):
        pieces.append(f"d{number}=".encode() + packed[at : at + _PIECE])
    return txt.strings(pieces)


def subtype(service: str) -> str:
    """Return the name under which the nodes of one service are asked for (RFC 6763 §7.1)."""
    fits = "." not in service and len(service.encode()) <= dns.MAX_LABEL
    return f"{service if fits else _unique(service, service)}.{_SUB}"


def query(id_: int, service: str | None = None) -> bytes:
    """Return the question for all nodes of a service, or of all services."""
    name = SERVICE_TYPE if service is None else subtype(service)
    return dns.encode(dns.Message(id=id_, questions=(dns.Question(name, dns.PTR),)))


def answer(question: dns.Question, id_: int, label: str, address: str, port: int, text: bytes) -> bytes:
    """Return the packet that tells who asked for the nodes of a service of one of them."""
    instance, host = f"{label}.{SERVICE_TYPE}", f"{label}.local."
    additionals = (
        dns.ResourceRecord(instance, dns.SRV, LIFETIME, (0, 0, port, host)),
        dns.ResourceRecord(host, dns.AAAA if ":" in address else dns.A, LIFETIME, address),
        dns.ResourceRecord(instance, dns.TXT, LIFETIME, text),
    )
    pointer = (dns.ResourceRecord(question.name, dns.PTR, LIFETIME, instance),)
    flags = dns.RESPONSE | dns.AUTHORITATIVE
    message = dns.Message(id=id_, flags=flags, questions=(question,), answers=pointer, additionals=additionals)
    return dns.encode(message)


@dataclass(slots=True)
class _Parts:
    """The records of one instance so far."""

    since: float
    service: tuple[int, str] | None = None
    """Port and host name."""
    text: bytes = b""
    host: str = ""


class Reader:
    """Reads nodes out of responses, joining what comes in several packets."""

    def __init__(self) -> None:
        self._parts: dict[str, _Parts] = {}
        self._known: dict[str, Record] = {}
        """What a goodbye, which may hold nothing but a name, is about."""

    def read(self, message: dns.Message, now: float, quota: txt.Quota | None = None) -> Iterator[Sighting]:
        """Return the nodes that ``message`` announces, changes or takes back; what is malformed is passed over."""
        records = [*message.answers, *message.additionals]
        hosts = {r.name: r.data for kind in (dns.AAAA, dns.A) for r in records if r.type == kind and r.ttl}
        legacy = bool(message.questions)  # an answer to our own question may have short TTLs (RFC 6762 §6.7)
        ttls: dict[str, int] = {}
        quota = quota or txt.Quota()
        for record in records:
            name = record.data if record.type == dns.PTR and _is_type(record.name) else record.name
            if isinstance(name, str) and name.endswith("." + SERVICE_TYPE):
                ttl = LIFETIME if legacy and record.ttl else record.ttl
                ttls[name] = min(ttl, ttls.get(name, ttl))
                self._keep(name, record, now)
        for host in hosts:
            ttls.setdefault(host.removesuffix("local.") + SERVICE_TYPE, LIFETIME)
        for name, ttl in ttls.items():
            found = self._complete(name, hosts, ttl, quota) if ttl else self._goodbye(name)
            if found is not None:
                yield found

    def _keep(self, name: str, record: dns.ResourceRecord, now: float) -> None:
        parts = self._parts.get(name)
        if parts is None or now - parts.since > _PATIENCE:
            self._parts.pop(name, None)
            if len(self._parts) >= _MAX_PARTS:
                del self._parts[next(iter(self._parts))]  # the oldest
            parts = self._parts[name] = _Parts(now)
        if isinstance(record.data, tuple):
            parts.service = record.data[2:]
        elif isinstance(record.data, bytes) and record.type == dns.TXT and len(record.data) <= _MAX_READ:
            parts.text = record.data

    def _complete(self, name: str, hosts: Mapping[str, object], ttl: int, quota: txt.Quota) -> Sighting | None:
        parts = self._parts.get(name)
        if parts is None or parts.service is None:
            return None
        port, target = parts.service
        if isinstance(host := hosts.get(target), str):
            parts.host = host
        if not parts.host or not parts.text or quota.is_spent:
            return None
        del self._parts[name]
        sighting = _node(parts.text, parts.host, port, ttl, quota)
        if sighting is not None and (name in self._known or len(self._known) < _MAX_KNOWN):
            (node,) = sighting.record.nodes
            self._known[name] = replace(sighting.record, nodes=(Node(id=node.id, address=node.address),), endpoints=())
        return sighting

    def _goodbye(self, name: str) -> Sighting | None:
        self._parts.pop(name, None)
        record = self._known.pop(name, None)
        return Sighting(dialect=DIALECT, record=record, ttl=0) if record else None


def _is_type(name: str) -> bool:
    return name == SERVICE_TYPE or name.endswith(f".{_SUB}")


def _node(rdata: bytes, host: str, port: int, ttl: int, quota: txt.Quota) -> Sighting | None:
    try:
        keys = _keys(txt.from_strings(rdata))
        pieces = [keys[f"d{number}"] for number in range(sum(key[1:].isdigit() for key in keys if key[0] == "d"))]
        if keys.get("txtvers") != b"1":
            return None
        id_, description = keys["id"].decode(), txt.inflate(b"".join(pieces))
    except (DecodeError, KeyError, UnicodeDecodeError):
        quota.spend()
        return None
    quota.spend(description.size)
    return sight(DIALECT, id_, host, port, description, ttl)


def _keys(pieces: list[bytes]) -> dict[str, bytes]:
    """Return keys, in lower case, and values; of a key that comes twice the first counts (RFC 6763 §6.4)."""
    keys: dict[str, bytes] = {}
    for piece in pieces:
        key, separator, value = piece.partition(b"=")
        if key and separator:
            keys.setdefault(key.decode(errors="replace").lower(), value)
    return keys
