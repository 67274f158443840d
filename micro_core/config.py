"""Settings: what flags, environment, file and code ask for, in that order (docs/configuration.md)."""

from __future__ import annotations

import argparse
import logging
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from micro_core._configuration_string import KINDS, Part, parse_part
from micro_core._durations import seconds
from micro_core._near import did_you_mean
from micro_core.errors import ConfigError

__all__ = ["KINDS", "SETTINGS", "Part", "Setting", "Settings", "flags", "load", "parse_part"]

log = logging.getLogger("micro.config")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value that can be set: by ``--name``, ``MICRO_NAME``, a key of the file, or in code."""

    name: str
    help: str
    default: str = ""
    convert: Callable[[str], Any] = str
    """From a text; raises ValueError that says what is valid."""
    field: str = ""
    """The field of `Settings`, where it has another name."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"MICRO_{self.name.upper()}"


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise ValueError("it is a whole number, such as 1")
    return int(text)


def _pairs(text: str) -> Mapping[str, str]:
    pairs: dict[str, str] = {}
    for each in text.split(",") if text else ():
        key, equals, value = each.partition("=")
        if not equals or not key.strip():
            raise ValueError("it is a list key=value,key=value")
        pairs[key.strip()] = value.strip()
    return MappingProxyType(pairs)


def _names(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


_DEFAULT_PARTS = {
    "registry": "mdns",
    "selector": "random",
    "transport": "http",
    "codec": "json,bytes,proto",
    "broker": "http",
    "client": "rpc",
    "server": "rpc",
}

_ADDRESSED = ("registry", "transport", "broker")
"""The kinds whose addresses may be given apart from the configuration string, as in Go Micro."""

_SYNONYMS = {"selector": {"registry": "random"}, "client": {"mucp": "rpc"}, "server": {"mucp": "rpc"}}
"""Go Micro's names for our defaults (docs/wire.md §6.4)."""

SETTINGS: tuple[Setting, ...] = (
    *(Setting(name=kind, help=f"the {kind}: a configuration string", default=_DEFAULT_PARTS[kind]) for kind in KINDS),
    Setting(name="registry_address", help="addresses of the registry", convert=_names),
    Setting(name="transport_address", help="addresses of the transport", convert=_names),
    Setting(name="broker_address", help="addresses of the broker", convert=_names),
    Setting(name="server_name", help="the service's name"),
    Setting(name="server_version", help="the service's version", default="latest"),
    Setting(name="server_id", help="the node's id, without the name before it; default: random"),
    Setting(name="server_address", help="where to listen", default="127.0.0.1:0"),
    Setting(name="server_advertise", help="the address to register instead of the one bound"),
    Setting(name="server_metadata", help="metadata of the node: key=value,key=value", convert=_pairs),
    Setting(name="register_ttl", help="how long a registration lives: seconds, or 1m", default="60", convert=seconds),
    Setting(name="register_interval", help="how often it is renewed: seconds, or 30s", default="30", convert=seconds),
    Setting(name="client_request_timeout", help="for a whole unary call: 5s", default="5s", convert=seconds),
    Setting(name="client_retries", help="attempts after the first", default="1", convert=_whole),
    Setting(name="client_pool_size", help="idle connections kept to a node", default="100", convert=_whole),
    Setting(name="client_pool_ttl", help="how long they are kept: 1m", default="1m", convert=seconds),
    Setting(name="proxy", help="the service that gets all calls"),
    Setting(name="proxy_address", help="the address that gets all calls"),
    Setting(name="propagate", help="headers that calls of a handler carry on", convert=_names),
    Setting(name="extensions", help="extensions, the first outermost", convert=_names),
    Setting(name="plugins_allow", help="the only distributions to load plugins from", convert=_names),
    Setting(name="plugins_block", help="distributions to load no plugin from", convert=_names),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_FILE_VARIABLE = "MICRO_CONFIG"
_GO_ONLY = frozenset(
    [
        "MICRO_RUNTIME",
        "MICRO_DEBUG_PROFILE",
        "MICRO_PLUGIN",
        "MICRO_NETWORK",
        "MICRO_NETWORK_ADDRESS",
        "MICRO_PROFILE",
        "MICRO_STORE",
        "MICRO_STORE_ADDRESS",
        "MICRO_AUTH",
        "MICRO_TRACER",
        "MICRO_TRACER_ADDRESS",
        "MICRO_TLS_SECURE",
        "MICRO_TLS_INSECURE",
    ]
)
"""Variables of Go Micro that mean nothing here (docs/wire.md §6.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a service or client shall be; durations are seconds."""

    registry: Part
    selector: Part
    transport: Part
    codec: tuple[Part, ...]
    broker: Part
    client: Part
    server: Part
    server_name: str
    server_version: str
    server_id: str
    server_address: str
    server_advertise: str
    server_metadata: Mapping[str, str]
    register_ttl: float
    register_interval: float
    client_request_timeout: float
    client_retries: int
    client_pool_size: int
    client_pool_ttl: float
    proxy: str
    proxy_address: str
    propagate: tuple[str, ...]
    extensions: tuple[str, ...]
    plugins_allow: tuple[str, ...]
    plugins_block: tuple[str, ...]
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)

    def source(self, name: str) -> str:
        """Return where a setting came from, for errors: ``flag --server_address``."""
        return self.sources.get(name, "default")


@dataclass(frozen=True, slots=True)
class _Value:
    """A raw value and where it was written."""

    value: Any
    source: str


def flags() -> argparse.ArgumentParser:
    """Return the parser of our flags, to which a program may add its own."""
    parser = argparse.ArgumentParser(allow_abbrev=False, argument_default=argparse.SUPPRESS, exit_on_error=False)
    for setting in SETTINGS:
        names = dict.fromkeys((f"--{setting.name}", f"--{setting.name.replace('_', '-')}"))
        parser.add_argument(*names, dest=setting.name, help=setting.help, metavar="VALUE")
    parser.add_argument("--config", dest="config", help="a TOML file with settings", metavar="FILE")
    return parser


def load(*, code: Mapping[str, Any] | None = None, environ: Mapping[str, str], argv: Sequence[str] = ()) -> Settings:
    """Return the settings. Precedence: flag, environment, file, code, default.

    Raises `ConfigError`: one sentence that names the value, where it came from, and what is valid.
    """
    found: dict[str, _Value] = {s.name: _Value(s.default, "default") for s in SETTINGS}
    found |= _from_code(code or {})
    by_flag = _from_flags(argv)
    by_variable = _from_environment(environ)
    file = by_flag.pop("config", None) or by_variable.pop("config", None)
    if file is not None:
        found |= _from_file(file)
    found |= by_variable
    found |= by_flag
    values: dict[str, Any] = {}
    for name, setting in _BY_NAME.items():
        if name not in KINDS:
            values[name] = _converted(setting, found[name])
    for kind in KINDS:
        addresses = values[f"{kind}_address"] if kind in _ADDRESSED else ()
        values[kind] = _parts(kind, found[kind], addresses)
    known = {each.name for each in fields(Settings)}
    sources = {name: value.source for name, value in found.items()}
    return Settings(
        **{name: value for name, value in values.items() if name in known}, sources=MappingProxyType(sources)
    )


def _converted(setting: Setting, found: _Value) -> Any:
    if not isinstance(found.value, str):
        return found.value
    try:
        return setting.convert(found.value)
    except ValueError as error:
        raise ConfigError(f"{setting.name} {found.value!r} ({found.source}) is not valid: {error}") from error


def _parts(kind: str, found: _Value, addresses: tuple[str, ...]) -> Any:
    """Return the part of a kind, or for codecs all of them."""
    if kind == "codec":
        texts = found.value.split(",") if isinstance(found.value, str) else found.value
        by_default = found.source == "default"
        parts = [parse_part(kind, text, found.source) for text in texts if text.strip()]
        if not parts:
            raise ConfigError(f"codec {found.value!r} ({found.source}) names none; valid is a list, such as json,proto")
        return tuple(replace(part, optional=by_default) for part in parts)
    part = parse_part(kind, str(found.value), found.source)
    name = _SYNONYMS.get(kind, {}).get(part.name, part.name)
    return replace(part, name=name, addresses=tuple(addresses) or part.addresses)


def _from_code(code: Mapping[str, Any]) -> dict[str, _Value]:
    _refuse_unknown(code, "argument")
    return {name: _Value(value, f"argument {name}=") for name, value in code.items() if value is not None}


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Value]:
    found = {}
    variables = {setting.variable: setting.name for setting in SETTINGS} | {_FILE_VARIABLE: "config"}
    for variable, value in environ.items():
        if variable in variables:
            if value:
                found[variables[variable]] = _Value(value, f"variable {variable}")
        elif variable.startswith("MICRO_") and variable not in _GO_ONLY:
            hint = did_you_mean(variable, variables)
            if hint:
                log.warning("variable %s means nothing here%s", variable, hint)
    return found


def _from_flags(argv: Sequence[str]) -> dict[str, _Value]:
    parser = flags()
    try:
        known, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}; valid is --name value or --name=value") from error
    for word in rest:
        flag = word.partition("=")[0]
        hint = did_you_mean(flag, [f"--{name}" for name in (*_BY_NAME, "config")])
        raise ConfigError(
            f"unknown flag {flag!r}{hint}; known: {', '.join('--' + name for name in (*_BY_NAME, 'config'))}"
        )
    return {name: _Value(value, f"flag --{name}") for name, value in vars(known).items()}


def _from_file(path: _Value) -> dict[str, _Value]:
    try:
        with Path(path.value).open("rb") as file:
            content = tomllib.load(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"configuration file {path.value!r} ({path.source}) cannot be read: {error}") from error
    source = f"file {path.value}"
    _refuse_unknown(content, source)
    return {name: _Value(_from_toml(name, value, source), source) for name, value in content.items()}


def _from_toml(name: str, value: Any, source: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float | list | dict):
        raise ConfigError(f"{name} {value!r} ({source}) is not valid: it is a text, a number or a list of texts")
    if isinstance(value, list):
        if not all(isinstance(each, str) for each in value):
            raise ConfigError(f"{name} {value!r} ({source}) is not valid: it is a list of texts")
        return tuple(value) if name == "codec" or _BY_NAME[name].convert is _names else ",".join(value)
    if isinstance(value, dict):
        if _BY_NAME[name].convert is not _pairs or not all(isinstance(each, str) for each in value.values()):
            raise ConfigError(f"{name} {value!r} ({source}) is not valid: it is a text")
        return MappingProxyType(value)
    return str(value)


def _refuse_unknown(names: Iterable[str], source: str) -> None:
    for name in names:
        if name not in _BY_NAME:
            raise ConfigError(
                f"unknown setting {name!r} ({source}){did_you_mean(name, _BY_NAME)}; known: {', '.join(_BY_NAME)}"
            )
