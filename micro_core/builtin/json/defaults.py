"""Defaults of dataclasses: msgspec leaves those that the sender left out on the class, and would not send them on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any, NamedTuple, TypeVar, get_origin

from msgspec.inspect import DataclassType, StructType, type_info

from micro_core.builtin.json.payload_types import parts_of

__all__ = ["with_defaults"]

Read = TypeVar("Read")


class _Plan(NamedTuple):
    """What is to be done with the objects of one class."""

    defaults: tuple[str, ...]
    """Fields that may lie on the class alone."""
    inner: tuple[str, ...]
    """Fields that hold, or may hold, further such objects."""


def with_defaults(type: object, decode: Callable[[bytes], Read]) -> Callable[[bytes], Read]:
    """Return ``decode``, which reads ``type``, such that each dataclass it makes holds all of its fields itself.

    It is ``decode`` itself where no class needs that: no dataclass, none with a default, or all with slots.
    """
    plans = _plans(type)
    if not plans:
        return decode
    put = object.__setattr__  # into frozen ones too; through `__dict__` it takes twice as long

    def complete(value: Any) -> None:
        kind = value.__class__
        plan = plans.get(kind)
        if plan is not None:
            for name in plan.defaults:
                put(value, name, getattr(value, name))  # the object's own, or else the class's
            for name in plan.inner:
                complete(getattr(value, name))
        elif kind is dict:
            for item in value.values():
                complete(item)
        elif kind in _CONTAINERS:
            for item in value:
                complete(item)

    def read(body: bytes) -> Read:
        value = decode(body)
        complete(value)
        return value

    return read


_CONTAINERS = (list, tuple, set, frozenset)


def _plans(type: object) -> dict[object, _Plan]:
    """Return the plans of all classes within ``type`` that are concerned; pydantic's fill in what they leave out."""
    try:
        root = type_info(type)
    except Exception:  # whether JSON can hold the type is told elsewhere
        return {}
    plans = {}
    for node in parts_of(root):
        if isinstance(node, DataclassType | StructType):
            kind = get_origin(node.cls) or node.cls
            inner = tuple(field.name for field in node.fields if _concerned(field.type))
            plan = _Plan(_class_defaults(kind), inner)
            if plan.defaults or plan.inner:
                plans[kind] = plan
    return plans


def _concerned(root: object) -> bool:
    return any(
        isinstance(node, DataclassType) and _class_defaults(get_origin(node.cls) or node.cls) for node in parts_of(root)
    )


def _class_defaults(kind: type) -> tuple[str, ...]:
    """Return the fields whose defaults lie on the class, where an object without one of its own finds them."""
    if not dataclasses.is_dataclass(kind):
        return ()
    return tuple(
        field.name
        for field in dataclasses.fields(kind)
        if field.default is not dataclasses.MISSING
        and not isinstance(getattr(kind, field.name, None), MemberDescriptorType)
    )
