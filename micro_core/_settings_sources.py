"""Where settings are written: flags, environment, file and code, each with its rank and its name in errors."""

from __future__ import annotations

import argparse
import logging
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NoReturn

from micro_core._near_miss import did_you_mean, near_miss
from micro_core.errors import ConfigError

__all__ = ["Given", "Rank", "flags_for", "from_code", "from_environment", "from_file", "from_flags", "variable"]

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
    """Which source goes before which: the higher."""

    DEFAULT, CODE, FILE, ENVIRONMENT, FLAG = range(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value as it was written, and where."""

    value: Any
    source: str
    rank: int


class _Parser(argparse.ArgumentParser):
    """Raises `ConfigError` where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}; --help lists the flags")


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"MICRO_{name.upper()}"


def flags_for(settings: Mapping[str, str], repeated: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with a flag for each setting, ``settings`` being name and help; ``repeated`` ones add up."""
    parser = _Parser(allow_abbrev=False)
    group = parser.add_argument_group("micro", "settings; each has a variable too: --registry is MICRO_REGISTRY")
    for name, text in settings.items():
        spellings = list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))
        action = "append" if name in repeated else "store"
        group.add_argument(
            *spellings, dest=f"micro_{name}", action=action, default=None, metavar="X", help=text.replace("%", "%%")
        )
    return parser


def from_flags(argv: Sequence[str], settings: Mapping[str, str], repeated: Iterable[str]) -> dict[str, Given]:
    """Return what the flags say; those that are not ours stay with the program, unless they look like one misspelt."""
    parsed, rest = flags_for(settings, repeated).parse_known_args(list(argv))
    for flag in _flags_in(rest):
        if meant := near_miss(flag.replace("-", "_"), settings, cutoff=0.85):
            raise ConfigError(f"unknown flag --{flag}; did you mean --{meant}?")
    values = {name: getattr(parsed, f"micro_{name}") for name in settings}
    return {
        name: Given(value=value, source=f"flag --{name}", rank=Rank.FLAG)
        for name, value in values.items()
        if value is not None
    }


def _flags_in(rest: Sequence[str]) -> list[str]:
    before = rest[: rest.index("--")] if "--" in rest else rest
    return [word[2:].partition("=")[0] for word in before if word.startswith("--")]


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
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is no TOML: {error}"
        raise ConfigError(f"file {path!r} (from {named_by}) cannot be read: {reason}") from error
    return _known(table, set(settings) - {"config"}, f"file {path}", "{source}", Rank.FILE)


def from_code(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Given]:
    """Return what the program says; None says nothing."""
    given = _known(values, set(settings) - {"config"}, "code", "argument {name}=", Rank.CODE)
    return {name: replace(one, source=f"argument {_ARGUMENTS.get(name, name)}=") for name, one in given.items()}


def _known(values: Mapping[str, Any], known: set[str], where: str, source: str, rank: int) -> dict[str, Given]:
    for name in values:
        if name not in known:
            hint = did_you_mean(name, known) or f"; there are: {', '.join(sorted(known))}"
            raise ConfigError(f"{where}: unknown setting {name[:100]!r}{hint}")
    return {
        name: Given(value=value, source=source.format(name=name, source=where), rank=rank)
        for name, value in values.items()
        if value is not None
    }
