"""The DNS-SD dialect of docs/protocol.md §6: labels, TXT records and reading, without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from micro_core import DecodeError

from . import dns, txt
from .sighting import LIFETIME, Sighting, sight

__all__ = ["MAX_TEXT", "SERVICE_TYPE", "Reader", "label", "query", "text"]

DIALECT = "dns-sd"
SERVICE_TYPE = "_micro._tcp.local."
MAX_TEXT = 8_000
_PIECE = 250
_PATIENCE = 1.0  # seconds in which the records of an instance have to come together
_MAX_INSTANCES = 10_000
_MAX_SHOWN = 200


def label(service: str, id_: str) -> str:
    """Return the instance label of a node, at most 63 bytes."""
    if id_.startswith(f"{service}-") and "." not in id_:
        return id_
    digest = hashlib.sha256(f"{service}\0{id_}".encode()).hexdigest()[:16]
    readable = id_.replace(".", "-").encode()[:46].decode(errors="ignore")
    return f"{readable}-{digest}"


def text(id_: str, description: txt.Description) -> bytes:
    """Return the rdata of a node's TXT record; it may be longer than `MAX_TEXT`."""
    shown = (("txtvers", "1"), ("id", id_), ("service", description.service), ("version", description.version))
    pieces = [f"{key}=".encode() + value.encode()[:_MAX_SHOWN] for key, value in shown]
    packed = txt.deflate(description)
    for number, at in enumerate(range(0, len(packed), _PIECE)):
        pieces.append(f"d{number}=".encode() + packed[at : at + _PIECE])
    return txt.strings(pieces)


def query(id_: int) -> bytes:
    """Return the question for all nodes of all services."""
    return dns.encode(dns.Message(id=id_, questions=(dns.Question(SERVICE_TYPE, dns.PTR),)))


@dataclass(slots=True)
class _Instance:
    """The records of one instance so far."""

    since: float
    service: dns.Record | None = None
    text: bytes = b""
    hosts: dict[str, str] = field(default_factory=dict)
    sighting: Sighting | None = None


class Reader:
    """Reads nodes out of responses, joining what comes in several packets."""

    def __init__(self) -> None:
        self._instances: dict[str, _Instance] = {}

    def read(self, message: dns.Message, now: float) -> Iterator[Sighting]:
        """Return the nodes that ``message`` announces, changes or takes back; what is malformed is passed over."""
        records = [*message.answers, *message.additionals]
        hosts = {r.name: r.data for kind in (dns.AAAA, dns.A) for r in records if r.type == kind and r.ttl}
        legacy = bool(message.questions)  # an answer to our own question may have short TTLs (RFC 6762 §6.7)
        touched: dict[str, int] = {}
        for record in records:
            name = record.data if record.type == dns.PTR and record.name == SERVICE_TYPE else record.name
            if isinstance(name, str) and name.endswith("." + SERVICE_TYPE):
                self._touch(name, record, now)
                ttl = LIFETIME if legacy and record.ttl else record.ttl
                touched[name] = min(ttl, touched.get(name, ttl))
        for name in self._waiting_for(hosts) - touched.keys():
            touched[name] = LIFETIME
        for name, ttl in touched.items():
            found = self._complete(name, hosts, ttl)
            if found is not None:
                yield found

    def _touch(self, name: str, record: dns.Record, now: float) -> None:
        instance = self._instances.get(name)
        if instance is None:
            self._forget(now)
            if len(self._instances) >= _MAX_INSTANCES:
                return
            instance = self._instances[name] = _Instance(now)
        elif now - instance.since > _PATIENCE:
            instance.since, instance.service, instance.text, instance.hosts = now, None, b"", {}
        if isinstance(record.data, tuple):
            instance.service = record
        elif record.type == dns.TXT and isinstance(record.data, bytes):
            instance.text = record.data

    def _waiting_for(self, hosts: Mapping[str, object]) -> set[str]:
        """Return the instances that lack nothing but one of these addresses."""
        if not hosts:
            return set()
        names = {host.removesuffix("local.") + SERVICE_TYPE for host in hosts}
        return {name for name in names if (known := self._instances.get(name)) and not known.hosts}

    def _complete(self, name: str, hosts: Mapping[str, object], ttl: int) -> Sighting | None:
        instance = self._instances.get(name)
        if instance is None:
            return None
        if not ttl:
            del self._instances[name]
            last = instance.sighting
            return last and Sighting(dialect=DIALECT, record=last.record, ttl=0)
        if instance.service is None or not isinstance(instance.service.data, tuple):
            return None
        _, _, port, target = instance.service.data
        if isinstance(host := hosts.get(target), str):
            instance.hosts[target] = host
        if not instance.text or target not in instance.hosts:
            return None
        instance.sighting = _node(instance.text, instance.hosts[target], port, ttl)
        return instance.sighting

    def _forget(self, now: float) -> None:
        if len(self._instances) < _MAX_INSTANCES:
            return
        for name in [name for name, known in self._instances.items() if now - known.since > LIFETIME]:
            del self._instances[name]


def _node(rdata: bytes, host: str, port: int, ttl: int) -> Sighting | None:
    try:
        keys = _keys(txt.from_strings(rdata))
        pieces = [keys[f"d{number}"] for number in range(sum(key[1:].isdigit() for key in keys if key[0] == "d"))]
        if keys.get("txtvers") != b"1":
            return None
        return sight(DIALECT, keys["id"].decode(), host, port, txt.inflate(b"".join(pieces)), ttl)
    except (DecodeError, KeyError, UnicodeDecodeError):
        return None


def _keys(pieces: list[bytes]) -> dict[str, bytes]:
    """Return keys, in lower case, and values; of a key that comes twice the first counts (RFC 6763 §6.4)."""
    keys: dict[str, bytes] = {}
    for piece in pieces:
        key, separator, value = piece.partition(b"=")
        if key and separator:
            keys.setdefault(key.decode(errors="replace").lower(), value)
    return keys
