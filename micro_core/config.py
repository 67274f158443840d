"""What a service and a client are set up with, from flags, environment, file and code (docs/configuration.md)."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from micro_core._part import Part, parse_addresses, parse_part
from micro_core._secrets import HIDDEN, hide_in_address, hide_in_mapping, hide_in_text
from micro_core._settings_sources import (
    Given,
    Rank,
    from_code,
    from_environment,
    from_file,
)
from micro_core._values import convert, valid
from micro_core.errors import ConfigError
from micro_core.tls import Tls

if TYPE_CHECKING:
    import argparse

__all__ = ["Part", "Settings", "flags", "load", "parse_part"]

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_KINDS: Final = ("registry", "selector", "transport", "broker", "client", "server")
_ADDRESSED: Final = ("registry", "transport", "broker")
"""The parts whose addresses can be written apart; ``server_address`` is where a service listens."""
_DEFAULT_PARTS: Final = {
    "registry": "mdns",
    "selector": "random",
    "transport": "http",
    "broker": "http",
    "client": "rpc",
    "server": "rpc",
}
_DEFAULT_CODECS: Final = ("json", "bytes", "proto")
_GO_NAMES: Final = {
    ("selector", "registry"): "random", ("client", "mucp"): "rpc", ("server", "mucp"): "rpc",
}  # fmt: skip
"""Go Micro's names for what are our defaults (docs/wire.md §6.4)."""


_CALLED: Final = (r"([^\s/?]*@)?([^\s:/?@]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}|", "host:port, such as 10.0.0.5:8080")
_PROXY: Final = (r"([^\s:/?@]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?|", "a service's name, or host:port")
_LISTENING: Final = (r"[^\s/?@]*:\d{1,5}(-\d{1,5})?", "host:port, such as 127.0.0.1:0, :8080 or :5000-6000")


def _setting(default: Any, help: str, **limits: Any) -> Any:
    metadata = {"help": help, **limits}
    if isinstance(default, Mapping):  # which dataclasses take for mutable
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings:
    """Every setting; `source` says where each one comes from. Times are seconds."""

    registry: Part
    selector: Part
    transport: Part
    broker: Part
    client: Part
    server: Part
    codec: tuple[Part, ...]
    server_name: str = _setting("", "the service's name")
    server_version: str = _setting("", "its version; default: latest")
    server_id: str = _setting("", "the last part of the node's id; default: random")
    server_address: str = _setting("127.0.0.1:0", "the address to listen at", form=_LISTENING)
    server_advertise: str = _setting("", "the address that others are told instead")
    server_metadata: Mapping[str, str] = _setting(_NOTHING, "the node's metadata, key=value,…")
    register_ttl: float = _setting(60.0, "how long a registration lives without being repeated; 0: for ever", least=0.0)
    register_interval: float = _setting(30.0, "how often it is repeated; default: half of a shorter ttl", above=0.0)
    workers: int = _setting(
        1, "processes that run the service, each with a node of its own; at most 1000", least=1, most=1000
    )
    client_request_timeout: float = _setting(5.0, "how long a unary call may take", above=0.0)
    client_retries: int = _setting(1, "attempts after the first", least=0)
    client_pool_size: int = _setting(100, "connections kept to a node", least=0)
    client_pool_ttl: float = _setting(60.0, "how long an idle connection is kept", least=0.0)
    propagate: tuple[str, ...] = _setting((), "headers of a request that calls of its handler carry on")
    proxy: str = _setting("", "the service, or host:port, that gets all calls", form=_PROXY)
    proxy_address: str = _setting("", "the address that gets all calls", form=_CALLED)
    tls_cert: str = _setting("", "a file with the certificate of this program; listeners speak TLS then")
    tls_key: str = _setting("", "a file with its key, where it is not in the same")
    tls_ca: str = _setting("", "a file with the authorities that peers are verified by; default: the machine's")
    tls_client_ca: str = _setting("", "a file with the authorities that callers have to have a certificate of")
    tls_pin: tuple[str, ...] = _setting((), "SHA-256 of the certificates that peers may present")
    tls_server_name: str = _setting("", "the name that peers' certificates are for, in place of their address")
    tls_insecure_skip_verify: bool = _setting(False, "true: peers are not verified")
    require_tls: bool = _setting(False, "true: no clear text outside this machine")
    extensions: tuple[str, ...] = _setting((), "extensions to use, the outermost first")
    plugins_allow: tuple[str, ...] = _setting((), "the only distributions whose plugins may be imported")
    plugins_block: tuple[str, ...] = _setting((), "distributions whose plugins are never imported")
    sources: Mapping[str, str] = field(default_factory=lambda: _NOTHING, compare=False)
    """By setting, where it was written; what is not in it has its default."""

    def source(self, name: str) -> str:
        """Return where a setting was written: ``flag --server_name``, ``variable MICRO_REGISTRY``, … or ``default``."""
        return self.sources.get(name, "default")

    @property
    def tls(self) -> Tls:
        """What the network parts speak TLS with, where their own options say nothing else."""
        return Tls(
            cert=self.tls_cert,
            key=self.tls_key,
            ca=self.tls_ca,
            client_ca=self.tls_client_ca,
            pin=self.tls_pin,
            server_name=self.tls_server_name,
            insecure_skip_verify=self.tls_insecure_skip_verify,
            require=self.require_tls,
        )

    def __repr__(self) -> str:
        shown = {one.name: _shown(getattr(self, one.name)) for one in fields(self) if one.name != "sources"}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


_VALUES: Final = {one.name: one for one in fields(Settings) if "help" in one.metadata}
_HELP: Final[Mapping[str, str]] = {
    "registry": "where services are found",
    "registry_address": "its addresses, host:port,…",
    "selector": "how a node is chosen",
    "transport": "what carries messages",
    "transport_address": "its addresses, host:port,…",
    "broker": "what carries published messages",
    "broker_address": "its addresses, host:port,…",
    "codec": "codecs, name,…",
    "client": "what makes calls",
    "server": "what answers calls",
    **{name: one.metadata["help"] for name, one in _VALUES.items()},
    "config": "a TOML file with settings",
}
_REPEATED: Final = ("codec", "server_metadata", "propagate", "tls_pin", "extensions", "plugins_allow", "plugins_block")


def flags() -> argparse.ArgumentParser:
    """Return a new parser that knows our flags, for a program that adds its own.

    It raises `ConfigError` instead of ending the process; ``--help`` still does.
    """
    from micro_core._flags import flags_for

    return flags_for(_HELP, _REPEATED)


def load(
    *, code: Mapping[str, Any] = MappingProxyType({}), environ: Mapping[str, str], argv: Sequence[str] = ()
) -> Settings:
    """Return what flags, environment, the file that ``MICRO_CONFIG`` names, and ``code`` say; the first goes before.

    ``argv`` is without the program's name; arguments that are not ours are left alone. Raises `ConfigError`: one
    sentence that names the value, where it came from, and what is valid.
    """
    by_flag = _from_flags(argv) if argv else {}
    by_variable = from_environment(environ, _HELP)
    named = by_flag.pop("config", None) or by_variable.get("config")
    by_variable.pop("config", None)
    by_file = from_file(named.value, named.source, _HELP) if named else {}
    given = {**from_code(code, _HELP), **by_file, **by_variable, **by_flag}
    parts: dict[str, Any] = {kind: _part(kind, given) for kind in _KINDS}
    values = {name: _read(name, given[name]) for name in _VALUES if name in given}
    sources = MappingProxyType({name: one.source for name, one in given.items()})
    return _consistent(Settings(**parts, codec=_codecs(given), **values, sources=sources))


def _from_flags(argv: Sequence[str]) -> dict[str, Given]:
    from micro_core._flags import from_flags

    return from_flags(argv, _HELP, _REPEATED)


@functools.cache
def _types() -> Mapping[str, Any]:
    return typing.get_type_hints(Settings)


def _part(kind: str, given: Mapping[str, Given]) -> Part:
    written = given.get(kind) or Given(value=_DEFAULT_PARTS[kind], source="default", rank=Rank.DEFAULT)
    part = _one_part(kind, written.value, written.source)
    address = given.get(f"{kind}_address") if kind in _ADDRESSED else None
    if address is None or (part.addresses and address.rank < written.rank):
        return part
    source = address.source if written.rank == Rank.DEFAULT else part.source
    return replace(
        part, addresses=parse_addresses(",".join(_texts(f"{kind}_address", address)), address.source), source=source
    )


def _one_part(kind: str, text: Any, source: str) -> Part:
    if not isinstance(text, str):
        raise ConfigError(
            f"{kind} (from {source}) is {type(text).__name__}; write a configuration string such as 'name'"
        )
    part = parse_part(kind, text.strip(), source)
    return replace(part, name=_GO_NAMES.get((kind, part.name), part.name)) if not part.distribution else part


def _codecs(given: Mapping[str, Given]) -> tuple[Part, ...]:
    if "codec" not in given:
        return tuple(Part(kind="codec", name=name, optional=True) for name in _DEFAULT_CODECS)
    written = given["codec"]
    codecs = tuple(_one_part("codec", text, written.source) for text in _texts("codec", written))
    if not codecs:
        raise ConfigError(
            f"codec (from {written.source}) is empty; name at least one, such as {','.join(_DEFAULT_CODECS)}"
        )
    return codecs


def _read(name: str, given: Given) -> Any:
    if name == "server_metadata":
        return MappingProxyType(_pairs(name, given))
    annotation = _types()[name]
    if annotation == tuple[str, ...]:
        return tuple(_texts(name, given))
    value = given.value
    if isinstance(value, str):
        try:
            value = convert(value.strip(), annotation)
        except ValueError as error:
            raise _wrong(name, given, valid(annotation)) from error
    elif annotation is float and type(value) is int:
        value = float(value)
    elif type(value) is not annotation:
        raise _wrong(name, given, valid(annotation))
    return _within_limits(name, given, value)


def _within_limits(name: str, given: Given, value: Any) -> Any:
    limits = _VALUES[name].metadata
    if "least" in limits and not limits["least"] <= value < float("inf"):
        raise _wrong(name, given, f"{valid(_types()[name])}, not less than {limits['least']:g}")
    if "above" in limits and not limits["above"] < value < float("inf"):
        raise _wrong(name, given, f"{valid(_types()[name])}, more than {limits['above']:g}")
    if "most" in limits and value > limits["most"]:
        raise _wrong(name, given, f"{valid(_types()[name])}, not more than {limits['most']:g}")
    if isinstance(value, str) and re.search(r"[\x00-\x1f\x7f]", value):
        raise _wrong(name, given, "text without control characters")
    if "form" in limits and not re.fullmatch(limits["form"][0], value, re.ASCII):
        raise _wrong(name, given, limits["form"][1])
    return value


def _texts(name: str, given: Given) -> list[str]:
    """Return the items of a list: written with commas, as several flags, or as a sequence in a file or in code."""
    several = [given.value] if isinstance(given.value, str) else given.value
    if not isinstance(several, Sequence) or not all(isinstance(one, str) for one in several):
        raise _wrong(name, given, "a text, or a list of texts")
    split = given.rank in (Rank.FLAG, Rank.ENVIRONMENT) or isinstance(given.value, str)
    items = [item.strip() for one in several for item in (one.split(",") if split else (one,))]
    return [item for item in items if item]


def _pairs(name: str, given: Given) -> dict[str, str]:
    if isinstance(given.value, Mapping):
        if all(isinstance(one, str) for pair in given.value.items() for one in pair):
            return dict(given.value)
        raise _wrong(name, given, "a table of texts")
    pairs = [text.partition("=") for text in _texts(name, given)]
    if any(not equals or not key for key, equals, _ in pairs):
        raise _wrong(name, given, "key=value[,key=value…]")
    return {key: value for key, _, value in pairs}


def _wrong(name: str, given: Given, instead: str) -> ConfigError:
    shown = hide_in_text(str(given.value)) if isinstance(given.value, str | int | float) else HIDDEN
    return ConfigError(f"{name}={shown} (from {given.source}) is not valid; write {instead}")


def _consistent(settings: Settings) -> Settings:
    """Return the settings, defaults made to agree with the rest. Raises `ConfigError` where what was written cannot."""
    if ":" in settings.proxy and not settings.proxy_address:
        settings = dataclasses.replace(settings, proxy="", proxy_address=settings.proxy)
    ttl, interval = settings.register_ttl, settings.register_interval
    if not ttl or interval < ttl:
        return settings
    if "register_interval" not in settings.sources:
        return dataclasses.replace(settings, register_interval=ttl / 2)
    raise ConfigError(
        f"register_interval={interval:g} (from {settings.source('register_interval')}) is not valid; write less than "
        f"register_ttl={ttl:g} (from {settings.source('register_ttl')}), or the service vanishes in between"
    )


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return hide_in_mapping(value)
    return hide_in_address(value) if isinstance(value, str) else value
