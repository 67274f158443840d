"""Texts to Python values: what stands in a configuration string, a flag or a variable, read as an annotation says."""

from __future__ import annotations

import collections.abc
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

__all__ = ["convert", "convertible", "parse_duration", "valid"]

_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_STEP: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on", "1", "t"), True),
    **dict.fromkeys(("false", "no", "off", "0", "f"), False),
}
_COLLECTIONS: Final[Mapping[object, Callable[[list[object]], Any]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: tuple,
    collections.abc.Collection: tuple,
    collections.abc.Iterable: tuple,
    collections.abc.Set: frozenset,
}


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration (``500ms``, ``5s``, ``1m30s``) or of a bare number. Raises ValueError."""
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    else:
        sign, steps = (-1.0, text[1:]) if text.startswith("-") else (1.0, text.removeprefix("+"))
        found = _STEP.findall(steps)
        if not found or "".join(number + unit for number, unit in found) != steps:
            raise ValueError("not a duration")
        seconds = sign * math.fsum(float(number) * _SECONDS[unit] for number, unit in found)
    if not math.isfinite(seconds):
        raise ValueError("too long")
    return seconds


def convert(text: str, annotation: object) -> object:
    """Return ``text`` as a value of the annotated type. Raises ValueError where it is none; `valid` says what is."""
    annotation = _plain(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return _one_of({str(choice): choice for choice in arguments}, text)
    if _is_union(origin):
        return _convert_to_union(text, arguments)
    if (origin or annotation) in _COLLECTIONS:
        item = arguments[0] if arguments else str
        items = [convert(part.strip(), item) for part in text.split(",")] if text.strip() else []
        return _COLLECTIONS[origin or annotation](items)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _one_of(_members(annotation), text)
    return _CONVERTERS[annotation](text)


def convertible(annotation: object) -> bool:
    """Tell whether a text can be read as the annotated type."""
    annotation = _plain(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return True
    if _is_union(origin):
        return any(convertible(member) for member in arguments if member is not types.NoneType)
    if (origin or annotation) in _COLLECTIONS:
        alike = origin is not tuple or (len(arguments) == 2 and arguments[1] is Ellipsis)
        return alike and (not arguments or convertible(arguments[0]))
    return annotation in _CONVERTERS or (isinstance(annotation, type) and issubclass(annotation, Enum))


def valid(annotation: object) -> str:
    """Return, for people, what a text of the annotated type looks like."""
    annotation = _plain(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if _is_union(origin):
        return " or ".join(valid(member) for member in arguments if convertible(member)) or "nothing"
    if (origin or annotation) in _COLLECTIONS:
        return "a list, separated by commas, each " + valid(arguments[0] if arguments else str)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "one of " + ", ".join(_members(annotation))
    return _DESCRIPTIONS[annotation]


def _plain(annotation: object) -> object:
    """Return what an `Annotated` type annotates."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _is_union(origin: object) -> bool:
    return origin in (typing.Union, types.UnionType)


def _convert_to_union(text: str, members: tuple[object, ...]) -> object:
    if not text and types.NoneType in members and str not in members:
        return None
    for member in members:
        if convertible(member):
            try:
                return convert(text, member)
            except ValueError:
                continue
    raise ValueError("fits none of the types")


def _members(enumeration: type[Enum]) -> dict[str, Enum]:
    return {str(member.value): member for member in enumeration}


def _one_of(choices: Mapping[str, object], text: str) -> object:
    if text not in choices:
        raise ValueError("not among the choices")
    return choices[text]


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError("not a whole number")
    return int(text)


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError("neither true nor false")
    return _BOOLEANS[text.lower()]


_CONVERTERS: Final[Mapping[object, Callable[[str], object]]] = {
    str: str,
    int: _whole,
    float: parse_duration,
    bool: _boolean,
    Path: Path,
}
_DESCRIPTIONS: Final[Mapping[object, str]] = {
    str: "any text",
    int: "a whole number",
    float: "a number (of seconds, where it is a time) or a duration such as 500ms, 5s or 1m",
    bool: "true or false",
    Path: "a path",
}
