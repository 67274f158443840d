"""Which types JSON can carry, and how pydantic's take part without being imported here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import isclass
from types import NoneType
from typing import Any, get_args

import msgspec
from msgspec.inspect import CustomType, Field, type_info

from micro_core.errors import ConfigError

__all__ = ["decode_function", "encode_model", "why_not"]

_BYTES = (bytes, bytearray, memoryview)


def why_not(type: Any) -> str:
    """Return why values of ``type`` cannot be JSON; empty where they can."""
    if type in (None, NoneType, Any):
        return ""
    if type in _BYTES:
        return "bytes are no JSON"
    if _is_model(type):
        return ""
    try:
        strangers = [part.cls for part in _parts(type_info(type)) if isinstance(part, CustomType)]
    except NameError as error:
        return f"its type hints cannot be resolved: {error}"
    except Exception as error:  # msgspec's own, and whatever an annotation raises
        return "" if _names_models(type) else str(error)
    unknown = [stranger.__qualname__ for stranger in strangers if not _is_model(stranger)]
    return f"JSON cannot hold {', '.join(dict.fromkeys(unknown))}" if unknown else ""


def decode_function(type: Any) -> Callable[[bytes], Any]:
    """Return what reads ``type`` from JSON, by msgspec where it can and by pydantic for what is pydantic's own.

    Raises `ConfigError` where JSON cannot hold the type.
    """
    if reason := why_not(type):
        raise ConfigError(reason)
    if not _is_model(type):
        try:
            return msgspec.json.Decoder(type, dec_hook=_decode_model).decode
        except TypeError:  # a union of models: pydantic's alone
            pass
    function: Callable[[bytes], Any] = sys.modules["pydantic"].TypeAdapter(type).validate_json
    return function


def encode_model(value: Any) -> Any:
    """Return the JSON of a pydantic model; raises TypeError for anything else (msgspec's ``enc_hook``)."""
    if _is_model(type(value)):
        return msgspec.Raw(value.model_dump_json(by_alias=True).encode())
    raise TypeError(f"{type(value).__qualname__} is no type that JSON knows")


def _decode_model(type: Any, value: Any) -> Any:
    """Read a model inside of something else (msgspec's ``dec_hook``), by pydantic's rules for JSON."""
    return type.model_validate_json(msgspec.json.encode(value))


def _is_model(type: Any) -> bool:
    return isclass(type) and hasattr(type, "__pydantic_core_schema__") and "pydantic" in sys.modules


def _names_models(type: Any) -> bool:
    return _is_model(type) or any(_names_models(argument) for argument in get_args(type))


def _parts(root: Any) -> Iterator[Any]:
    """Walk a type and all that it is made of, each once: types may refer to themselves."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        part = pending.pop()
        if isinstance(part, tuple):
            pending.extend(part)
        elif isinstance(part, msgspec.inspect.Type | Field) and id(part) not in seen:
            seen.add(id(part))
            yield part
            pending.extend(getattr(part, name) for name in part.__struct_fields__)
