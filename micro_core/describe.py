"""Descriptions of payload types for the registry, as Go Micro draws them (docs/wire.md §3.10)."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import isclass
from typing import Any, get_origin

from msgspec import inspect
from msgspec.structs import replace

from micro_core.registry import Value

__all__ = ["describe"]

_LEVELS = 3
"""How deep fields are described; the payload itself is the first level."""

_SCALARS: dict[type[inspect.Type], str] = {
    inspect.BoolType: "bool",
    inspect.IntType: "int64",
    inspect.FloatType: "float64",
    inspect.DateTimeType: "Time",
    inspect.BytesType: "[]uint8",
    inspect.ByteArrayType: "[]uint8",
    inspect.MemoryViewType: "[]uint8",
    # What JSON writes as text is a text to a peer.
    inspect.StrType: "string",
    inspect.DateType: "string",
    inspect.TimeType: "string",
    inspect.TimeDeltaType: "string",
    inspect.DecimalType: "string",
    inspect.UUIDType: "string",
}
_LITERALS = {bool: "bool", int: "int64", str: "string"}
_RECORDS = (inspect.DataclassType, inspect.StructType, inspect.TypedDictType, inspect.NamedTupleType)
_SEQUENCES = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.CollectionType)

# fmt: off
_PROTO_TYPES = (
    "float64", "float32", "int64", "uint64", "int32", "uint64", "uint32", "bool", "string",
    "",  # a group
    "",  # a message
    "[]uint8", "uint32",
    "",  # an enum
    "int32", "int64", "int32", "int64",
)
# fmt: on
"""Go's names of protobuf's scalar types, which count from one (google/protobuf/descriptor.proto)."""
_PROTO_REPEATED = 3


def describe(type: object, name: str = "") -> Value:
    """Return what a payload of ``type`` looks like: Go's name of the type and, three levels deep, its fields.

    Without a ``name`` it has the type's own, as Go Micro names payloads.
    Classes have their own names, ``list[X]`` is ``[]X``, an optional type is the type itself; what Go has no name for
    (mappings, unions, `Any`, None) has an empty one. Never raises: of what cannot be read only the name is told.
    """
    value = _of_node(_node(type), name, 1)
    return value if name else replace(value, name=value.type)


def _node(type: Any) -> inspect.Type:
    try:
        return inspect.type_info(type)
    except Exception:  # annotations are other people's code; whether a codec takes the type is told elsewhere
        return inspect.CustomType(type)


def _of_node(node: inspect.Type, name: str, level: int) -> Value:
    node = _required(node)
    if isinstance(node, inspect.CustomType) and hasattr(node.cls, "DESCRIPTOR"):
        return _of_message(node.cls.DESCRIPTOR, name, level)
    values = () if level == _LEVELS else tuple(_of_node(field, key, level + 1) for key, field in _fields(node))
    return Value(name=name, type=_type_name(node), values=values)


def _required(node: inspect.Type) -> inspect.Type:
    """Take away metadata, and the None of an optional type: Go draws pointers as what they point to."""
    while True:
        if isinstance(node, inspect.Metadata):
            node = node.type
            continue
        if not isinstance(node, inspect.UnionType):
            return node
        rest = [part for part in node.types if not isinstance(part, inspect.NoneType)]
        if len(rest) != 1:
            return node
        node = rest[0]


def _type_name(node: inspect.Type) -> str:
    node = _required(node)
    if scalar := _SCALARS.get(type(node)):
        return scalar
    if isinstance(node, _SEQUENCES):
        return "[]" + _type_name(node.item_type)
    if isinstance(node, inspect.LiteralType):
        kinds = {_LITERALS[type(value)] for value in node.values if value is not None}
        return kinds.pop() if len(kinds) == 1 else ""
    named = getattr(node, "cls", None)
    named = get_origin(named) or named
    return named.__name__ if isclass(named) else ""


def _fields(node: inspect.Type) -> Iterable[tuple[str, inspect.Type]]:
    if isinstance(node, _RECORDS):
        fields = node.fields
        if isinstance(node, inspect.TypedDictType):  # which sorts them
            order = list(getattr(node.cls, "__annotations__", ()))
            fields = tuple(sorted(fields, key=lambda field: order.index(field.name) if field.name in order else 0))
        return [(field.encode_name, field.type) for field in fields]
    if isinstance(node, inspect.CustomType):  # pydantic's models tell their fields themselves
        model_fields = getattr(node.cls, "model_fields", None)
        if isinstance(model_fields, dict):
            return [(_alias(key, field), _node(field.annotation)) for key, field in model_fields.items()]
    return ()


def _alias(key: str, field: Any) -> str:
    return getattr(field, "serialization_alias", None) or getattr(field, "alias", None) or key


def _of_message(descriptor: Any, name: str, level: int) -> Value:
    fields = () if level == _LEVELS or _is_map(descriptor) else descriptor.fields
    return Value(name=name, type=descriptor.name, values=tuple(_of_message_field(field, level + 1) for field in fields))


def _of_message_field(field: Any, level: int) -> Value:
    message = field.message_type
    repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == _PROTO_REPEATED
    if message is not None and not repeated:
        return _of_message(message, field.name, level)
    if message is not None and _is_map(message):
        return Value(name=field.name, type="")
    named = message or field.enum_type
    type_name = named.name if named is not None else _PROTO_TYPES[field.type - 1]
    return Value(name=field.name, type="[]" * repeated + type_name)


def _is_map(descriptor: Any) -> bool:
    return bool(descriptor.has_options and descriptor.GetOptions().map_entry)
