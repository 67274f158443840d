"""Descriptions of payload types as Go Micro draws them (docs/wire.md §3.10)."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest

from micro_core import Value
from micro_core.describe import describe

T = TypeVar("T")


class Kind(enum.Enum):
    PLAIN = 1


@dataclass
class Address:
    street: str


@dataclass
class Person:
    name: str
    address: Address


@dataclass
class Meeting:
    host: Person
    at: datetime


@dataclass
class Tree:
    name: str
    left: "Tree | None" = None
    rest: list["Tree"] | None = None


class Struct(msgspec.Struct, rename="camel"):
    full_name: str


class Typed(TypedDict):
    name: str
    loud: NotRequired[bool]


@attrs.define
class Attrs:
    name: str
    address: Address


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName")
    address: Address | None = None
    parent: "Model | None" = None


@dataclass
class Generically(Generic[T]):
    item: T


@dataclass
class Unresolvable:
    missing: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


def drawn(value: Value) -> str:
    """Write a description as text: ``name type{fields}``."""
    fields = f"{{{', '.join(drawn(field) for field in value.values)}}}" if value.values else ""
    return f"{value.name} {value.type}{fields}".rstrip()


@pytest.mark.parametrize(
    ("type", "name"),
    [
        (str, "string"),
        (int, "int64"),
        (float, "float64"),
        (bool, "bool"),
        (bytes, "[]uint8"),
        (datetime, "Time"),
        (timedelta, "string"),
        (Decimal, "string"),
        (Kind, "Kind"),
        (list[str], "[]string"),
        (Sequence[Address], "[]Address"),
        (tuple[int, ...], "[]int64"),
        (set[Kind], "[]Kind"),
        (list[list[int]], "[][]int64"),
        (list[Address | None], "[]Address"),
        (list, "[]"),
        (str | None, "string"),
        (int | str, ""),
        (Literal["a", "b"], "string"),
        (Literal["a", 1], ""),
        (Annotated[int, msgspec.Meta(gt=0)], "int64"),
        (dict[str, int], ""),
        (Mapping[str, Address], ""),
        (Any, ""),
        (None, ""),
        (object, "object"),
        ("a text", ""),
    ],
)
def test_a_type_without_fields_has_gos_name(type: Any, name: str) -> None:
    assert describe(type, "Request") == Value(name="Request", type=name)


@pytest.mark.parametrize(
    ("type", "drawing"),
    [
        (Address, "Request Address{street string}"),
        (Person | None, "Request Person{name string, address Address{street string}}"),
        (Struct, "Request Struct{fullName string}"),
        (Typed, "Request Typed{name string, loud bool}"),
        (Attrs, "Request Attrs{name string, address Address{street string}}"),
        (Generically[Address], "Request Generically{item Address{street string}}"),
        (list[Address], "Request []Address"),
    ],
)
def test_fields_are_drawn(type: Any, drawing: str) -> None:
    assert drawn(describe(type, "Request")) == drawing


def test_a_model_of_pydantics_is_drawn_with_its_aliases() -> None:
    inner = "Model{fullName string, address Address, parent Model}"
    drawing = f"Request Model{{fullName string, address Address{{street string}}, parent {inner}}}"
    assert drawn(describe(Model, "Request")) == drawing


def test_the_third_level_is_the_last() -> None:
    assert drawn(describe(Meeting, "Request")) == "Request Meeting{host Person{name string, address Address}, at Time}"


def test_a_type_that_holds_itself_is_drawn_three_levels_deep() -> None:
    inner = "Tree{name string, left Tree, rest []Tree}"
    assert drawn(describe(Tree, "Request")) == f"Request Tree{{name string, left {inner}, rest []Tree}}"


def test_of_what_cannot_be_read_the_name_is_told() -> None:
    assert describe(Unresolvable, "Request") == Value(name="Request", type="Unresolvable")


def test_a_payload_without_a_name_has_its_type_s() -> None:
    """So a Go peer names them (docs/wire.md §3.10)."""
    assert describe(Person).name == "Person"
