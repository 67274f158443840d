"""Settings on the command line; imported only where there is one to read."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

from micro_core._settings.near_miss import near_miss
from micro_core._settings.sources import Given, Rank
from micro_core.errors import ConfigError

__all__ = ["flags_for", "from_flags"]


class _Parser(argparse.ArgumentParser):
    """Raises `ConfigError` where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}; --help lists the flags")


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
