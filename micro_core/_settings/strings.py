"""Configuration strings: ``name[@distribution][://[address[,address…]][/path][?key=value[&…]]]``.

The grammar is ours, not that of URLs: names have underscores, ``@distribution`` stands before ``://``, and hosts may be
several.
Path and options are percent-decoded, addresses are taken as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote_to_bytes

import msgspec

from micro_core._settings.secrets import hide_in_address, hide_in_mapping, hide_in_text
from micro_core.errors import ConfigError

__all__ = ["Part", "parse_addresses", "parse_part"]

_GRAMMAR: Final = "name[@distribution][://[address[,address…]][/path][?key=value[&…]]]"
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?", re.ASCII)
_PARTS: Final = re.compile(
    r"(?P<name>[^@:/?]*)(?:@(?P<distribution>[^@:/?]*))?"
    r"(?P<rest>://(?P<addresses>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<options>.*))?)?",
    re.DOTALL,
)
_ADDRESS: Final = re.compile(
    r"(?:[^\s,/?@\[\]]*@)?(?:\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]|[^\s,/?@\[\]:]*)(?::(?P<port>\d{1,5}))?", re.ASCII
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH_SAFE: Final = "/:,=&+;!$'()*~ "
_OPTION_SAFE: Final = "/:,?+;!$'()*~ []"
_LONGEST: Final = 64 * 1024


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration string says: which implementation of a kind, and how it is set up. `str` writes it again."""

    kind: str
    name: str
    """The entry point's name in the group ``micro.<kind>``."""
    distribution: str = ""
    """The distribution that is to provide it; empty: the only one that does."""
    addresses: tuple[str, ...] = ()
    path: str = ""
    """Empty, or with its leading slash."""
    options: Mapping[str, str] = msgspec.field(default_factory=dict)
    source: str = "default"
    """Where it was written, for errors: ``flag --registry``, ``variable MICRO_REGISTRY``, ``default``, …"""
    optional: bool = False
    """True: skipped where it is not installed."""

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.distribution, self.addresses, self.path, self.source, self.optional))

    def __str__(self) -> str:
        return self._written(self.addresses, self.options)

    def __repr__(self) -> str:
        # All addresses as one: a password may hold the comma that parts them.
        addresses = (hide_in_address(",".join(self.addresses)),) if self.addresses else ()
        shown = self._written(addresses, hide_in_mapping(self.options))
        return f"<{self.kind} {shown} from {self.source}>"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("", repr(self))]  # the library rich asks structs for their fields, secrets and all

    def _written(self, addresses: tuple[str, ...], options: Mapping[str, str]) -> str:
        name = f"{self.name}@{self.distribution}" if self.distribution else self.name
        if not addresses and not self.path and not options:
            return name
        pairs = (f"{quote(key, safe=_OPTION_SAFE)}={quote(value, safe=_OPTION_SAFE)}" for key, value in options.items())
        query = "?" + "&".join(pairs) if options else ""
        return f"{name}://{','.join(addresses)}{quote(self.path, safe=_PATH_SAFE)}{query}"


def parse_part(kind: str, text: str, source: str) -> Part:
    """Return what a configuration string says. Raises `ConfigError`, without any secret, for one that is malformed."""
    try:
        return _parse(kind, text, source)
    except _Malformed as error:
        shown = hide_in_text(text)
        raise ConfigError(f"{kind} {shown!r} (from {source}): {error}; write {_GRAMMAR}") from None


def parse_addresses(text: str, source: str) -> tuple[str, ...]:
    """Return the addresses of a list separated by commas. Raises `ConfigError`."""
    try:
        return _addresses(text)
    except _Malformed as error:
        shown = hide_in_text(hide_in_address(text))
        raise ConfigError(f"address {shown!r} (from {source}): {error}; write host:port[,host:port…]") from None


class _Malformed(Exception):
    """The text does not fit the grammar; says why without quoting it."""


def _parse(kind: str, text: str, source: str) -> Part:
    if len(text) > _LONGEST:
        raise _Malformed(f"it is longer than {_LONGEST} characters")
    if not text:
        raise _Malformed("it is empty")
    if _CONTROL.search(text):
        raise _Malformed("it holds a control character")
    match = _PARTS.fullmatch(text)
    if match is None:
        raise _Malformed("it is not of that form")
    for what in ("name", "distribution"):
        if match[what] is not None and not _NAME.fullmatch(match[what]):
            raise _Malformed(f"the {what} has to consist of letters, digits, '_', '-' and '.'")
    if "@" in (match["path"] or "") + (match["options"] or ""):  # it may end a password that holds a '/' or '?'
        raise _Malformed("an '@' after the addresses has to be written %40, and a password holds neither '/' nor '?'")
    path = _decoded(match["path"] or "", "path")
    if _CONTROL.search(path):
        raise _Malformed("the path holds a control character")
    return Part(
        kind=kind,
        name=match["name"],
        distribution=match["distribution"] or "",
        addresses=_addresses(match["addresses"]) if match["addresses"] else (),
        path=path,
        options=MappingProxyType(_options(match["options"] or "")),
        source=source,
    )


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(address.strip() for address in text.split(","))
    for address in addresses:
        if not address or address.endswith("@"):
            raise _Malformed("an address is empty")
        match = _ADDRESS.fullmatch(address)
        if match is None or _CONTROL.search(address):
            raise _Malformed("an address is not host:port (an IPv6 address stands in brackets: [::1]:8080)")
        if match["port"] and int(match["port"]) > 65535:
            raise _Malformed("a port is more than 65535")
    return addresses


def _options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise _Malformed("an option is not key=value")
        decoded = _decoded(key, "options")
        if decoded in options:
            raise _Malformed("an option is given twice")
        options[decoded] = _decoded(value, "options")
    return options


def _decoded(text: str, where: str) -> str:
    if _ESCAPE.search(text):
        raise _Malformed(f"a '%' in the {where} is no percent-encoding: write %25 for it")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise _Malformed(f"the percent-encoding in the {where} is not of UTF-8") from None
