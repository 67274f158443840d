"""From a plugin's options, which are texts, to the constructor that they are for."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from micro_core._plugins.arguments import ARGUMENTS
from micro_core._settings.near_miss import did_you_mean
from micro_core._settings.secrets import HIDDEN, is_secret
from micro_core._settings.values import convert, convertible, valid
from micro_core.errors import ConfigError
from micro_core.tls import Tls

__all__ = ["build"]

Built = TypeVar("Built")

_TLS_OPTIONS = ARGUMENTS["registry"]["tls"].settings
"""Read by `Tls.overlaid` before, of a part that is given a `Tls`."""


def build(cls: Callable[..., Built], options: Mapping[str, str], /, **given: object) -> Built:
    """Call ``cls`` with ``given`` and with the texts of ``options``, each read as its parameter is annotated.

    ``str``, ``int``, ``bool``, ``float`` (a number or a Go duration, in seconds), `Path`, enums, `Literal`, lists and
    tuples of these (separated by commas) and unions with None can be read; parameters of other types, and those in
    ``given``, are no options. Raises `ConfigError` for an option that is unknown, missing or of a wrong value.
    """
    known = _options_of(cls, without=given)
    there = [*known, *(_TLS_OPTIONS if any(isinstance(one, Tls) for one in given.values()) else ())]
    arguments = {name: _read(cls, name, text, known, there) for name, text in options.items()}
    missing = [name for name in _required(cls) if name not in arguments and name not in given]
    if missing:
        raise ConfigError(f"{_name(cls)} needs the option {missing[0]!r}; write it as ?{missing[0]}=…")
    return cls(**given, **arguments)


def _read(
    cls: Callable[..., object], name: str, text: str, known: Mapping[str, object], there: Collection[str]
) -> object:
    if name not in known:
        options = ", ".join(sorted(there)) or "none"
        raise ConfigError(f"{_name(cls)} has no option {name!r}{did_you_mean(name, there)}; its options: {options}")
    try:
        return convert(text, known[name])
    except ValueError as error:
        shown = HIDDEN if is_secret(name) else text[:100]
        raise ConfigError(
            f"option {name}={shown!r} of {_name(cls)} is not valid: write {valid(known[name])}"
        ) from error


def _options_of(cls: Callable[..., object], *, without: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters that a text can be read for, with their annotations."""
    hints = _hints(cls)
    names = [parameter.name for parameter in _parameters(cls) if parameter.name not in without]
    return {name: hints[name] for name in names if name in hints and convertible(hints[name])}


def _required(cls: Callable[..., object]) -> list[str]:
    return [parameter.name for parameter in _parameters(cls) if parameter.default is parameter.empty]


def _parameters(cls: Callable[..., object]) -> list[inspect.Parameter]:
    parameters = inspect.signature(cls).parameters.values()
    return [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]


def _hints(cls: Callable[..., object]) -> dict[str, object]:
    """Return the annotations; a name that exists for type checkers alone becomes a type that no text is read as."""
    function = cls.__init__ if isinstance(cls, type) else cls  # type: ignore[misc]
    for_type_checkers: dict[str, object] = {}
    while True:
        try:
            return typing.get_type_hints(function, localns=for_type_checkers, include_extras=True)
        except NameError as error:
            if error.name is None or error.name in for_type_checkers:
                raise
            for_type_checkers[error.name] = _Unreadable


class _Unreadable:
    """Stands for a type that is imported under ``TYPE_CHECKING``."""

    def __class_getitem__(cls, item: object) -> type:
        return cls


def _name(cls: Callable[..., object]) -> str:
    return getattr(cls, "__name__", repr(cls))
