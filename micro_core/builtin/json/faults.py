"""Every fault of a JSON document: msgspec stops at the first, and whoever sent it wants to know them all."""

from __future__ import annotations

import re
import typing
from collections import abc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

__all__ = ["Fault", "Faults", "faults_of"]

LARGEST = 16 * 1024
"""Bytes of the largest document that is searched; of a larger one only the first fault is told."""
MOST = 20
"""Faults that are looked for."""
SHOWN = 5
"""Faults that the text names; all are in the details."""

MISSING = "is missing"
ANY = "[...]"
"""What msgspec's path has for a key of a mapping."""
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)


class Fault(NamedTuple):
    """What is wrong at one place of a document; the path is empty where it is the document itself."""

    path: str
    reason: str

    def shortened(self) -> Fault:
        """Return the same, short enough for twenty to travel in a header: both hold what the sender wrote."""
        return Fault(_cut(self.path, 100), _cut(self.reason, 150))

    def __str__(self) -> str:
        if not self.path:
            return self.reason
        return f"field '{self.path}' is missing" if self.reason == MISSING else f"field '{self.path}': {self.reason}"


class Faults(NamedTuple):
    """What is wrong with a document; there may be more where it is not ``complete``."""

    found: list[Fault]
    complete: bool

    def __str__(self) -> str:
        text = "; ".join(map(str, self.found[:SHOWN]))
        if len(self.found) > SHOWN:
            text += f"; and {len(self.found) - SHOWN}{'' if self.complete else ' or'} more faults"
        return text

    def details(self) -> dict[str, object]:
        """Return the same as JSON."""
        return {"faults": [fault._asdict() for fault in self.found], "complete": self.complete}


def faults_of(body: bytes, type: object, error: Exception, hook: Callable[[object, Any], object]) -> Faults:
    """Return what is wrong with ``body``, which is JSON; ``error`` is what reading it as ``type`` raised.

    ``hook`` reads what msgspec does not know, as its ``dec_hook``.
    """
    first = _told(error, "")
    if len(body) > LARGEST or not isinstance(error, msgspec.ValidationError):
        return _shortened(first, len(body) <= LARGEST)
    search = _Search(hook)
    try:
        search.visit(msgspec.json.decode(body), type, "")
    except _Enough:
        search.complete = False
    except Exception:  # annotations are other people's code, and the first fault is known
        search.complete = False
    seen = {fault.path for fault in search.found}
    found = [fault for fault in first if fault.path not in seen and (ANY not in fault.path or not seen)] + search.found
    return _shortened(found, search.complete)


def _shortened(found: list[Fault], complete: bool) -> Faults:
    return Faults([fault.shortened() for fault in found[:MOST]], complete and len(found) <= MOST)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


class _Enough(Exception):
    """Raised to end the search: enough faults were found."""


class _Search:
    """Walks a document along its type."""

    def __init__(self, hook: Callable[[object, Any], object]) -> None:
        self._hook = hook
        self.found: list[Fault] = []
        self.complete = True

    def visit(self, value: object, type: object, path: str) -> None:
        """Add the faults of ``value``. Raises `_Enough`."""
        try:
            msgspec.convert(value, type, str_keys=True, dec_hook=self._hook)
        except msgspec.ValidationError as error:
            children = _children(value, type)
            if children is None:
                self._add(error, value, path)
            else:
                self._visit_children(children, path, error)

    def _visit_children(self, children: Iterator[_Child], path: str, error: msgspec.ValidationError) -> None:
        before = len(self.found)
        for step, value, type in children:
            if value is _ABSENT:
                self.found.append(Fault(joined(path, step), MISSING))
            else:
                self.visit(value, type, joined(path, step))
            if len(self.found) > MOST:
                raise _Enough
        if len(self.found) == before:  # no child is wrong, but the whole: too long, of a wrong tag
            self._add(error, None, path)

    def _add(self, error: msgspec.ValidationError, value: object, path: str) -> None:
        told = _told(error, path)
        self.complete = self.complete and (len(told) > 1 or not isinstance(value, dict | list) or told[0].path == path)
        self.found += told


class _Child(NamedTuple):
    step: str | int
    value: object
    type: object


_ABSENT = object()


def _children(value: object, type: Any) -> Iterator[_Child] | None:
    """Return what ``value`` is made of, each with its type; None where it is one thing, or its type is unclear."""
    if (origin := typing.get_origin(type)) is typing.Annotated:
        type, origin = type.__origin__, typing.get_origin(type.__origin__)
    arguments = typing.get_args(type)
    if origin in _UNIONS:
        fitting = [children for each in arguments if (children := _children(value, each)) is not None]
        return fitting[0] if len(fitting) == 1 else None
    if isinstance(value, list):
        kind = origin or type
        if kind in _SEQUENCES and arguments and (kind is not tuple or arguments[-1] is Ellipsis):
            return (_Child(at, item, arguments[0]) for at, item in enumerate(value))
    elif isinstance(value, dict):
        if (origin or type) in _MAPPINGS and len(arguments) == 2:
            return (_Child(key, item, arguments[1]) for key, item in value.items())
        return _fields(value, type)
    return None


_UNIONS = (typing.Union, type(int | str))
_SEQUENCES = (list, set, frozenset, tuple, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Set)
_MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def _fields(value: dict[str, object], type: object) -> Iterator[_Child] | None:
    info = inspect.type_info(type)
    if not isinstance(info, inspect.StructType | inspect.DataclassType | inspect.TypedDictType):
        return None
    hints = typing.get_type_hints(typing.get_origin(type) or type, include_extras=True)
    return (
        _Child(field.encode_name, value.get(field.encode_name, _ABSENT), _bare(hints[field.name]))
        for field in info.fields
        if field.required or field.encode_name in value
    )


def _bare(hint: object) -> object:
    """Return a type without what says something of its field alone."""
    while typing.get_origin(hint) in (typing.Required, typing.NotRequired, typing.Final):
        (hint,) = typing.get_args(hint)
    return hint


def _told(error: Exception, path: str) -> list[Fault]:
    """Return what an exception of msgspec's or pydantic's says, below ``path``."""
    match = _PLACE.fullmatch(str(error))
    assert match  # the pattern fits any text
    cause: object = error.__cause__ if isinstance(error, msgspec.ValidationError) else error
    path += match["path"] or "" if cause is not error else ""
    if hasattr(cause, "errors"):  # pydantic's
        faults = cause.errors(include_url=False, include_input=False)
        return [Fault(joined(path, *fault["loc"]), _lowered(fault["msg"])) for fault in faults]
    if missing := _MISSING.fullmatch(match["what"]):
        return [Fault(joined(path, missing["field"]), MISSING)]
    return [Fault(joined(path), _lowered(match["what"].replace("`", "")))]


def joined(path: str, *more: str | int) -> str:
    """Return a path with further steps: names after a dot, numbers in brackets."""
    for step in more:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.removeprefix(".")


def _lowered(text: str) -> str:
    """Return a sentence for the middle of another; UUID stays UUID."""
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
