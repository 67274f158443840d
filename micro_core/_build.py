"""From the options of a configuration string to a constructor's typed arguments."""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from micro_core._durations import seconds
from micro_core._near import did_you_mean
from micro_core.errors import ConfigError

__all__ = ["build"]

Part = TypeVar("Part")

_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def build(cls: Callable[..., Part], options: Mapping[str, str], /, **given: Any) -> Part:
    """Return ``cls(**options, **given)``, the texts of ``options`` converted to the types of its parameters.

    Known types: str, int, float (a Go duration such as ``500ms`` counts as seconds), bool, enums, `Literal`, lists and
    tuples of them (comma separated), each with ``| None``. Raises `ConfigError` for an option that the constructor does
    not have, with the nearest that it has, and for a value that does not convert.
    """
    hints = {
        name: _hint(cls, parameter.annotation)
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in given and parameter.kind in _BY_NAME
    }
    names = [name for name, hint in hints.items() if _convertible(hint)]
    converted: dict[str, Any] = {}
    for name, text in options.items():
        if name not in names:
            valid = f"valid: {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"unknown option {name!r}; {valid}{did_you_mean(name, names)}")
        try:
            converted[name] = _convert(text, hints[name])
        except ValueError as error:
            raise ConfigError(f"option {name}={text!r} is not valid: {error}") from error
    return cls(**converted, **given)


_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _hint(cls: Callable[..., Any], annotation: Any) -> Any:
    """Return a parameter's type; None where it cannot be known here, as with imports for type checkers alone."""
    if not isinstance(annotation, str):
        return annotation
    function = inspect.unwrap(cls.__init__ if inspect.isclass(cls) else cls)
    try:
        return eval(annotation, getattr(function, "__globals__", {}))  # noqa: S307 - the plugin's own source
    except Exception:
        return None


def _convertible(hint: Any) -> bool:
    arguments = typing.get_args(hint)
    if _is_union(hint):
        return any(_convertible(each) for each in arguments if each is not type(None))
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return True
    if origin in (list, tuple, Sequence):
        return bool(arguments) and _convertible(arguments[0])
    return hint in (str, int, float, bool) or (inspect.isclass(hint) and issubclass(hint, enum.Enum))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _convert(text: str, hint: Any) -> Any:
    """Return a text as a value of a type. Raises ValueError that says what is valid."""
    arguments = typing.get_args(hint)
    if _is_union(hint):
        return _convert_to_any(text, [each for each in arguments if each is not type(None)])
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if text not in arguments:
            raise ValueError(f"it is one of {', '.join(map(str, arguments))}")
        return text
    if origin in (list, tuple, Sequence):
        values = [_convert(each, arguments[0]) for each in text.split(",") if each]
        return tuple(values) if origin is tuple else values
    if hint is str:
        return text
    if hint is bool:
        return _boolean(text)
    if hint is int:
        if not (text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 20):
            raise ValueError("it is a whole number")
        return int(text)
    if hint is float:
        return seconds(text)
    for member in hint:
        if text in (member.name, str(member.value)):
            return member
    raise ValueError(f"it is one of {', '.join(str(member.value) for member in hint)}")


def _convert_to_any(text: str, hints: Sequence[Any]) -> Any:
    for hint in hints[:-1]:
        try:
            return _convert(text, hint)
        except ValueError:
            continue
    return _convert(text, hints[-1])


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError("it is true or false") from None
