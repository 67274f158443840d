"""Which types JSON can carry, and how pydantic's take part without being imported here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import isclass
from types import NoneType, new_class
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec.inspect import CustomType, Field, type_info

from micro_core.errors import ConfigError

__all__ = ["decode_function", "decode_model", "encode_model", "parts_of", "why_not"]

_BYTES = (bytes, bytearray, memoryview)


def why_not(type: object) -> str:
    """Return why values of ``type`` cannot be JSON; empty where they can."""
    if type in (None, NoneType, Any):
        return ""
    if type in _BYTES:
        return "bytes are no JSON"
    if _is_model(type):
        return ""
    try:
        strangers = [part.cls for part in parts_of(type_info(type)) if isinstance(part, CustomType)]
    except NameError as error:
        return f"its type hints cannot be resolved: {error}"
    except Exception as error:  # msgspec's own, and whatever an annotation raises
        return _why_not_by_pydantic(type, str(error))
    unknown = [stranger.__qualname__ for stranger in strangers if not _is_model(stranger)]
    return f"JSON cannot hold {', '.join(dict.fromkeys(unknown))}" if unknown else ""


def decode_function(type: object) -> Callable[[bytes], object]:
    """Return what reads ``type`` from JSON: msgspec where it can, pydantic its own models and unions of them.

    Raises `ConfigError` where JSON cannot hold the type.
    """
    if reason := why_not(type):
        raise ConfigError(reason)
    if not _is_model(type):
        try:
            return msgspec.json.Decoder(type, dec_hook=decode_model).decode
        except TypeError:  # a union of models, or what holds one: pydantic's alone
            pass
    return _by_pydantic(type)


def _why_not_by_pydantic(type: object, msgspec_says: str) -> str:
    """Return why pydantic cannot read what msgspec does not take; what holds no model is none of its business."""
    if not _names_models(type, set()):
        return msgspec_says
    try:
        _by_pydantic(type)
    except Exception as error:
        shown = getattr(error, "message", str(error)).partition("\n")[0]
        return f"{msgspec_says} (nor does pydantic take it: {shown})"
    return ""


def _by_pydantic(type: object) -> Callable[[bytes], object]:
    """Return what reads ``type`` by pydantic's rules for JSON, bytes as base64, as everywhere."""
    pydantic = sys.modules["pydantic"]
    if _is_model(type):
        function: Callable[[bytes], object] = pydantic.TypeAdapter(type).validate_json
        return function
    body: Any = new_class("Body", (pydantic.RootModel[type],), {"val_json_bytes": "base64"})

    def read(document: bytes) -> object:
        return body.model_validate_json(document).root

    return read


def encode_model(value: Any) -> object:
    """Return the JSON of a pydantic model; raises TypeError for anything else (msgspec's ``enc_hook``)."""
    if _is_model(type(value)):
        return msgspec.Raw(value.model_dump_json(by_alias=True).encode())
    raise TypeError(f"{type(value).__qualname__} is no type that JSON knows")


def decode_model(type: Any, value: object) -> object:
    """Read a model inside of something else (msgspec's ``dec_hook``), by pydantic's rules for JSON."""
    return type.model_validate_json(msgspec.json.encode(value))


def _is_model(type: object) -> bool:
    return isclass(type) and hasattr(type, "__pydantic_core_schema__") and "pydantic" in sys.modules


def _names_models(type: object, seen: set[object]) -> bool:
    """Tell whether a pydantic model stands anywhere in ``type``."""
    if _is_model(type):
        return True
    kind = get_origin(type) or type
    hints = list(get_args(type))
    if isclass(kind) and kind not in seen:
        seen.add(kind)
        hints += _hints(kind)
    return any(_names_models(hint, seen) for hint in hints)


def _hints(kind: type) -> list[object]:
    if not hasattr(kind, "__annotations__"):
        return []
    try:
        return list(get_type_hints(kind).values())
    except Exception:  # annotations are other people's code, and the reason is known already
        return []


def parts_of(root: object) -> Iterator[object]:
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
