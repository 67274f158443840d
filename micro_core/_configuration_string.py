"""The configuration string that names a part: ``etcd://host:2379,host2:2379/prefix?ttl=30`` (docs/configuration.md).

The grammar: ``name[@distribution][://[address[,address…]][/path][?key=value[&…]]]``. It is our own: `urlsplit` knows neither
``mdns@distribution://``, nor underscores in a scheme, nor several hosts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import quote, unquote

from micro_core.errors import ConfigError

__all__ = ["KINDS", "Part", "parse_part"]

KINDS = ("registry", "selector", "transport", "codec", "broker", "client", "server")

_NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]*"
_STRING = re.compile(
    rf"(?P<name>{_NAME})(?:@(?P<distribution>{_NAME}))?"
    r"(?P<url>://(?P<addresses>[^/?#\s]*)(?P<path>/[^?#\s]*)?(?:\?(?P<options>[^#\s]*))?)?",
    re.ASCII,
)
_ADDRESS = re.compile(r"(?:[^@\[\],]*@)?(?:\[[0-9A-Fa-f:.%]+\]|[^\[\],:@]+)?(?::\d{1,5}(?:-\d{1,5})?)?")
_SECRET = re.compile("token|pass|secret|key|credential", re.IGNORECASE)
_LONGEST = 16_384
_EMPTY: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part as somebody asked for it."""

    kind: str
    name: str
    distribution: str = ""
    """The distribution that the user insists on; empty: whichever offers the name."""
    addresses: tuple[str, ...] = ()
    path: str = ""
    options: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    source: str = "default"
    """Where it was written, for errors: ``variable MICRO_REGISTRY``."""
    optional: bool = False
    """True where nobody asked for it: then it may be missing."""

    def __str__(self) -> str:
        """Return the configuration string, secrets included: for nobody's eyes."""
        return self._text(hide=False)

    def __repr__(self) -> str:
        return f"<Part {self.kind}={self._text(hide=True)} from {self.source}>"

    def _text(self, hide: bool) -> str:
        head = f"{self.name}@{self.distribution}" if self.distribution else self.name
        if not (self.addresses or self.path or self.options):
            return head
        addresses = ",".join(_without_password(each) if hide else each for each in self.addresses)
        shown = [
            f"{quote(key, safe='')}={'***' if hide and _SECRET.search(key) else quote(value, safe=',:/[]')}"
            for key, value in self.options.items()
        ]
        return f"{head}://{addresses}{self.path}{'?' + '&'.join(shown) if shown else ''}"


def _without_password(address: str) -> str:
    return f"***@{address.rpartition('@')[2]}" if "@" in address else address


def parse_part(kind: str, text: str, source: str = "argument") -> Part:
    """Return the part that a configuration string names. Raises `ConfigError` that says what is valid."""
    matched = _STRING.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if matched is None:
        raise _wrong(kind, text, source, "it is not of that form")
    addresses = tuple((matched["addresses"] or "").split(",")) if matched["addresses"] else ()
    for address in addresses:
        if not address or not _ADDRESS.fullmatch(address):
            raise _wrong(
                kind, text, source, f"{_without_password(address)!r} is no address, such as 10.0.0.5:8080 or [::1]:8080"
            )
    return Part(
        kind=kind,
        name=matched["name"],
        distribution=matched["distribution"] or "",
        addresses=addresses,
        path=matched["path"] or "",
        options=_options(kind, text, source, matched["options"] or ""),
        source=source,
    )


def _options(kind: str, text: str, source: str, query: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        key, equals, value = pair.partition("=")
        name = unquote(key)
        if not name or not equals:
            raise _wrong(kind, text, source, f"option {name!r} has no value: write {name or 'name'}=value")
        if name in options:
            raise _wrong(kind, text, source, f"option {name!r} is given twice")
        options[name] = unquote(value)
    return MappingProxyType(options)


def _wrong(kind: str, text: str, source: str, why: str) -> ConfigError:
    shown = re.sub(r"(://)[^/?@]*@", r"\1***@", text[:200])
    shown = re.sub(r"((?:token|pass|secret|key|credential)[^=&]*=)[^&]*", r"\1***", shown, flags=re.IGNORECASE)
    return ConfigError(
        f"{kind} {shown!r} ({source}): {why}; valid is name[@distribution][://[address,…][/path][?key=value&…]], "
        "such as etcd://10.0.0.5:2379/prefix?ttl=30"
    )
