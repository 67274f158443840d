"""Where settings are written: environment, file and code, each with its rank and its name in errors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from micro_core._settings.near_miss import did_you_mean, near_miss
from micro_core.errors import ConfigError

__all__ = ["Given", "Rank", "from_code", "from_environment", "from_file", "variable"]

log = logging.getLogger("micro.config")

_GO_ONLY: Final = (
    "MICRO_AUTH", "MICRO_DEBUG_PROFILE", "MICRO_NETWORK", "MICRO_NETWORK_ADDRESS", "MICRO_PLUGIN", "MICRO_PROFILE",
    "MICRO_RUNTIME", "MICRO_STORE", "MICRO_TLS_INSECURE", "MICRO_TLS_SECURE", "MICRO_TRACER",
)  # fmt: skip
"""Go Micro's variables that mean nothing here (docs/wire.md §6.4)."""

_GO_ONLY_PREFIXES: Final = ("MICRO_AUTH_", "MICRO_RUNTIME_", "MICRO_STORE_", "MICRO_TRACER_")

_ARGUMENTS: Final = {
    "server_name": "name", "server_version": "version", "server_address": "address", "server_metadata": "metadata",
}  # fmt: skip
"""The settings that `Service` has other names for."""


class Rank:
    """The precedence of sources: the higher wins."""

    DEFAULT, CODE, FILE, ENVIRONMENT, FLAG = range(5)


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A value as it was written, and where."""

    value: Any
    source: str
    rank: int


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"MICRO_{name.upper()}"


def from_environment(environ: Mapping[str, str], settings: Iterable[str]) -> dict[str, Given]:
    """Return what the variables say; an empty one says nothing, as in Go Micro. Warns of those that look misspelt."""
    known = {variable(name): name for name in settings}
    for unknown in sorted(name for name in environ if name.startswith("MICRO_") and name not in known):
        if unknown in _GO_ONLY or unknown.startswith(_GO_ONLY_PREFIXES):
            log.debug("variable %s of Go Micro means nothing here", unknown)
        elif meant := near_miss(unknown.removeprefix("MICRO_"), known.values(), cutoff=0.8):
            log.warning("variable %s is not known; did you mean %s?", unknown[:100], variable(meant))
    return {
        name: Given(value=environ[key], source=f"variable {key}", rank=Rank.ENVIRONMENT)
        for key, name in known.items()
        if environ.get(key, "").strip()
    }


def from_file(path: str, named_by: str, settings: Iterable[str]) -> dict[str, Given]:
    """Return what a TOML file says. Raises `ConfigError` where it cannot be read or names what there is not."""
    import tomllib

    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is no TOML: {error}"
        raise ConfigError(f"file {path!r} (from {named_by}) cannot be read: {reason}") from error
    said = _known(table, settings, f"file {path}")
    return {name: Given(value=value, source=f"file {path}", rank=Rank.FILE) for name, value in said.items()}


def from_code(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Given]:
    """Return what the program says; None says nothing."""
    said = _known(values, settings, "code")
    return {
        name: Given(value=value, source=f"argument {_ARGUMENTS.get(name, name)}=", rank=Rank.CODE)
        for name, value in said.items()
    }


def _known(values: Mapping[str, object], settings: Iterable[str], where: str) -> dict[str, object]:
    """Return the values that say something. Raises `ConfigError` for a name that is none of ``settings``."""
    known = set(settings) - {"config"}
    for name in values:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are: {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: unknown setting {name[:100]!r}{hint}")
    return {name: value for name, value in values.items() if value is not None}
