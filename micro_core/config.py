"""What a service and a client are set up with, from flags, environment, file and code (docs/configuration.md)."""

from __future__ import annotations

import functools
import math
import re
import typing
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from micro_core._settings.secrets import HIDDEN, hide_in_address, hide_in_mapping, hide_in_text
from micro_core._settings.sources import (
    Given,
    Rank,
    from_code,
    from_environment,
    from_file,
)
from micro_core._settings.strings import Part, parse_addresses, parse_part
from micro_core._settings.values import convert, valid
from micro_core.client import LONGEST_SECONDS
from micro_core.errors import ConfigError
from micro_core.tls import Tls
from micro_core.transport import Limits

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
_HEADERS: Final = (r"[!#$%&'*+\-.^_`|~\w]+", "names of headers, such as Tenant,Request-Id")
_LISTENING: Final = (r"[^\s/?@]*:\d{1,5}(-\d{1,5})?", "host:port, such as 127.0.0.1:0, :8080 or :5000-6000")


class _Of(msgspec.Struct, frozen=True):
    """What a setting is for, and what it may be."""

    help: str
    least: float = -math.inf
    above: float = -math.inf
    most: float = math.inf
    form: tuple[str, str] = ("", "")
    """A pattern, and what to write."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting; `source` says where each one comes from. Times are seconds."""

    registry: Part
    selector: Part
    transport: Part
    broker: Part
    client: Part
    server: Part
    codec: tuple[Part, ...]
    extensions: tuple[Part, ...] = ()
    server_name: Annotated[str, _Of("the service's name")] = ""
    server_version: Annotated[str, _Of("its version; default: latest")] = ""
    server_id: Annotated[str, _Of("the last part of the node's id; default: random")] = ""
    server_address: Annotated[str, _Of("the address to listen at", form=_LISTENING)] = "127.0.0.1:0"
    server_advertise: Annotated[str, _Of("the address that others are told instead")] = ""
    server_metadata: Annotated[Mapping[str, str], _Of("the node's metadata, key=value,…")] = _NOTHING
    register_ttl: Annotated[
        float, _Of("how long a registration lives without being repeated; 0: for ever", least=0.0)
    ] = 60.0
    register_interval: Annotated[float, _Of("how often it is repeated; default: half of a shorter ttl", above=0.0)] = (
        30.0
    )
    linger: Annotated[
        float, _Of("how long a service that has deregistered goes on serving who has not heard of it", least=0.0)
    ] = 0.25
    drain_timeout: Annotated[float, _Of("how long a stopping service waits for calls under way", least=0.0)] = 25.0
    limit_body: Annotated[int, _Of("bytes that a request's body may have", least=1)] = 4 * 1024 * 1024
    limit_headers: Annotated[int, _Of("bytes that a request's headers may have together", least=1)] = 64 * 1024
    limit_header_seconds: Annotated[float, _Of("how long the headers of a request may take to arrive", above=0.0)] = 5.0
    limit_calls: Annotated[int, _Of("calls in flight on one connection", least=1)] = 100
    limit_calls_in_progress: Annotated[
        int, _Of("calls, streams and events that are handled at a time, on all connections together", least=1)
    ] = 10_000
    limit_bytes_in_flight: Annotated[
        int, _Of("bytes of requests that are handled at a time, on all connections together", least=1)
    ] = 256 * 1024 * 1024
    limit_idle_seconds: Annotated[float, _Of("how long a connection without calls is kept", above=0.0)] = 180.0
    loop_warning: Annotated[
        float, _Of("how long code may hold the event loop up without a warning; 0: for ever", least=0.0)
    ] = 0.5
    workers: Annotated[
        int, _Of("processes that run the service, each with a node of its own; at most 1000", least=1, most=1000)
    ] = 1
    client_request_timeout: Annotated[float, _Of("how long a unary call may take", above=0.0, most=LONGEST_SECONDS)] = (
        5.0
    )
    client_retries: Annotated[int, _Of("attempts after the first", least=0)] = 1
    client_pool_size: Annotated[int, _Of("connections kept to a node", least=0)] = 100
    client_pool_ttl: Annotated[float, _Of("how long an idle connection is kept", least=0.0)] = 60.0
    propagate: Annotated[
        tuple[str, ...], _Of("headers of a request that calls of its handler carry on", form=_HEADERS)
    ] = ()
    proxy: Annotated[str, _Of("the service, or host:port, that gets all calls", form=_PROXY)] = ""
    proxy_address: Annotated[str, _Of("the address that gets all calls", form=_CALLED)] = ""
    tls_cert: Annotated[str, _Of("a file with the certificate of this program; listeners speak TLS then")] = ""
    tls_key: Annotated[str, _Of("a file with its key, where it is not in the same")] = ""
    tls_ca: Annotated[str, _Of("a file with the authorities that peers are verified by; default: the machine's")] = ""
    tls_client_ca: Annotated[str, _Of("a file with the authorities that callers have to have a certificate of")] = ""
    tls_pin: Annotated[tuple[str, ...], _Of("SHA-256 of the certificates that peers may present")] = ()
    tls_server_name: Annotated[str, _Of("the name that peers' certificates are for, in place of their address")] = ""
    tls_insecure_skip_verify: Annotated[bool, _Of("true: peers are not verified")] = False
    require_tls: Annotated[bool, _Of("true: no clear text outside this machine")] = False
    plugins_allow: Annotated[tuple[str, ...], _Of("the only distributions whose plugins may be imported")] = ()
    plugins_block: Annotated[tuple[str, ...], _Of("distributions whose plugins are never imported")] = ()
    sources: Mapping[str, str] = _NOTHING
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

    @property
    def limits(self) -> Limits:
        """What the listener of a service accepts."""
        return Limits(**{name: getattr(self, f"limit_{name}") for name in Limits.__struct_fields__})

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, _shown(getattr(self, name))) for name in self.__struct_fields__ if name != "sources"]


@functools.cache
def _values() -> Mapping[str, tuple[object, _Of]]:
    """Return type and description of each setting that is a value, and no part."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    return {name: typing.get_args(hint) for name, hint in hints.items() if typing.get_origin(hint) is Annotated}


@functools.cache
def _help() -> Mapping[str, str]:
    return {
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
        "extensions": "extensions to use, name,…, the outermost first",
        **{name: of.help for name, (_, of) in _values().items()},
        "config": "a TOML file with settings",
    }


_REPEATED: Final = ("codec", "server_metadata", "propagate", "tls_pin", "extensions", "plugins_allow", "plugins_block")


def flags() -> argparse.ArgumentParser:
    """Return a new parser that knows our flags, for a program that adds its own.

    It raises `ConfigError` instead of ending the process; ``--help`` still does.
    """
    from micro_core._settings.flags import flags_for

    return flags_for(_help(), _REPEATED)


def load(
    *, code: Mapping[str, object] = MappingProxyType({}), environ: Mapping[str, str], argv: Sequence[str] = ()
) -> Settings:
    """Return what flags, environment, the file that ``MICRO_CONFIG`` names, and ``code`` say; the first goes before.

    ``argv`` is without the program's name; arguments that are not ours are left alone. Raises `ConfigError`: one
    sentence that names the value, where it came from, and what is valid.
    """
    by_flag = _from_flags(argv) if argv else {}
    by_variable = from_environment(environ, _help())
    named = by_flag.pop("config", None) or by_variable.get("config")
    by_variable.pop("config", None)
    by_file = from_file(named.value, named.source, _help()) if named else {}
    given = {**from_code(code, _help()), **by_file, **by_variable, **by_flag}
    parts: dict[str, Any] = {kind: _part(kind, given) for kind in _KINDS}
    values = {name: _read(name, given[name]) for name in _values() if name in given}
    sources = MappingProxyType({name: one.source for name, one in given.items()})
    return _consistent(
        Settings(**parts, codec=_codecs(given), extensions=_extensions(given), **values, sources=sources)
    )


def _from_flags(argv: Sequence[str]) -> dict[str, Given]:
    from micro_core._settings.flags import from_flags

    return from_flags(argv, _help(), _REPEATED)


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


def _one_part(kind: str, text: object, source: str) -> Part:
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
    codecs = _part_list("codec", "codec", written)
    if not codecs:
        raise ConfigError(
            f"codec (from {written.source}) is empty; name at least one, such as {','.join(_DEFAULT_CODECS)}"
        )
    return codecs


def _extensions(given: Mapping[str, Given]) -> tuple[Part, ...]:
    return _part_list("extensions", "extension", given["extensions"]) if "extensions" in given else ()


def _part_list(name: str, kind: str, given: Given) -> tuple[Part, ...]:
    parts = tuple(_one_part(kind, text, given.source) for text in _texts(name, given))
    if len({part.name for part in parts}) < len(parts):
        raise _wrong(name, given, f"each {kind} once")
    return parts


def _read(name: str, given: Given) -> Any:
    if name == "server_metadata":
        return MappingProxyType(_pairs(name, given))
    annotation, of = _values()[name]
    if annotation == tuple[str, ...]:
        items = tuple(_texts(name, given))
        for item in items:
            if wrong := _what_is_wrong(item, str, of):
                raise _wrong(name, given, wrong)
        return items
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
    if wrong := _what_is_wrong(value, annotation, of):
        raise _wrong(name, given, wrong)
    return value


def _what_is_wrong(value: Any, annotation: object, of: _Of) -> str:
    """Return what would be valid, where the value is not."""
    if isinstance(value, str):
        if re.search(r"[\x00-\x1f\x7f]", value):
            return "text without control characters"
        pattern, told = of.form
        return told if pattern and not re.fullmatch(pattern, value, re.ASCII) else ""
    if of.least > -math.inf and not of.least <= value < math.inf:
        return f"{valid(annotation)}, not less than {of.least:g}"
    if of.above > -math.inf and not of.above < value < math.inf:
        return f"{valid(annotation)}, more than {of.above:g}"
    return f"{valid(annotation)}, not more than {of.most:g}" if value > of.most else ""


def _texts(name: str, given: Given) -> list[str]:
    """Return the items of a list: written with commas, as several flags, or as a sequence in a file or in code."""
    several = [given.value] if isinstance(given.value, str) else given.value
    if not isinstance(several, Sequence) or not all(isinstance(one, str) for one in several):
        raise _wrong(name, given, "a text, or a list of texts")
    split = given.rank in (Rank.FLAG, Rank.ENVIRONMENT) or isinstance(given.value, str)
    items = [item.strip() for one in several for item in (one.split(",") if split else (one,))]
    items = [item for item in items if item]
    if len(set(items)) < len(items):
        raise _wrong(name, given, "each item once")
    return items


def _pairs(name: str, given: Given) -> dict[str, str]:
    if isinstance(given.value, Mapping):
        if all(isinstance(one, str) for pair in given.value.items() for one in pair):
            return dict(given.value)
        raise _wrong(name, given, "a table of texts")
    pairs = [text.partition("=") for text in _texts(name, given)]
    if any(not equals or not key for key, equals, _ in pairs):
        raise _wrong(name, given, "key=value[,key=value…]")
    values = {key: value for key, _, value in pairs}
    if len(values) < len(pairs):
        raise _wrong(name, given, "each key once")
    return values


def _wrong(name: str, given: Given, instead: str) -> ConfigError:
    value = given.value
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        value = ",".join(value)
    shown = hide_in_text(str(value)) if isinstance(value, str | int | float) else HIDDEN
    return ConfigError(f"{name}={shown} (from {given.source}) is not valid; write {instead}")


def _consistent(settings: Settings) -> Settings:
    """Return the settings, defaults made to agree with the rest. Raises `ConfigError` where what was written cannot."""
    if ":" in settings.proxy and not settings.proxy_address:
        settings = replace(settings, proxy="", proxy_address=settings.proxy)
    ttl, interval = settings.register_ttl, settings.register_interval
    if not ttl or interval < ttl:
        return settings
    if "register_interval" not in settings.sources:
        return replace(settings, register_interval=ttl / 2)
    raise ConfigError(
        f"register_interval={interval:g} (from {settings.source('register_interval')}) is not valid; write less than "
        f"register_ttl={ttl:g} (from {settings.source('register_ttl')}), or the service vanishes in between"
    )


def _shown(value: object) -> object:
    if isinstance(value, Mapping):
        return hide_in_mapping(value)
    return hide_in_address(value) if isinstance(value, str) else value
