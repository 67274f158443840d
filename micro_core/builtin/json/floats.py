"""Floats that are no numbers: msgspec writes them as null, which the receiver would be blamed for refusing."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator
from functools import lru_cache
from types import NoneType

import msgspec
from msgspec.inspect import AnyType, CustomType, FloatType, type_info

from micro_core.builtin.json.faults import joined
from micro_core.builtin.json.payload_types import parts_of

__all__ = ["no_number_in"]

_NO_NUMBER = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""What begins a NaN or an infinity in MessagePack; found in a text by chance, it is looked at again."""


def no_number_in(value: object) -> str:
    """Return where a value that JSON has nulls for holds NaN or an infinity; empty where it holds none.

    Called for replies that are full of None too, so the search is msgspec's; only what it finds is looked at in Python.
    """
    kind: object = type(value)
    if not _may_hold_floats(kind):
        return ""
    try:
        if not _NO_NUMBER.search(_pack(value)):
            return ""
    except Exception:  # MessagePack knows less than JSON: no long integers
        pass
    return next(_places(msgspec.to_builtins(value, enc_hook=_plain), ""), "")


@lru_cache(maxsize=1024)
def _may_hold_floats(kind: Hashable) -> bool:
    if kind in (str, int, bool, NoneType):
        return False
    try:
        return any(isinstance(part, FloatType | AnyType | CustomType) for part in parts_of(type_info(kind)))
    except Exception:  # annotations are other people's code
        return True


def _plain(value: object) -> object:
    """Return a pydantic model's fields; what else is no JSON was refused before."""
    return value.model_dump() if hasattr(value, "model_dump") else str(value)


_pack = msgspec.msgpack.Encoder(enc_hook=_plain).encode


def _places(value: object, path: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"field '{path}' is {value}" if path else f"it is {value}"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _places(item, joined(path, str(key)))
    elif isinstance(value, list | tuple | set | frozenset):
        for at, item in enumerate(value):
            yield from _places(item, joined(path, at))
