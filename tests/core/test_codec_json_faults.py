"""Every fault of a JSON body is told, in the text and in the details."""

from __future__ import annotations

import enum
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pydantic
import pytest

from micro_core import DecodeError
from micro_core._wire.errors import error_from_wire, error_to_wire
from micro_core.builtin.json.codec import JsonCodec

CODEC = JsonCodec()
Item = TypeVar("Item")


@dataclass
class Line:
    article: str
    count: int
    id: uuid.UUID | None = None


class Address(msgspec.Struct, rename="camel"):
    post_code: Annotated[str, msgspec.Meta(max_length=5)]
    house_number: int


class Extras(TypedDict):
    gift: bool
    note: NotRequired[str]


class Point(NamedTuple):
    x: int
    y: int


class Model(pydantic.BaseModel):
    id: uuid.UUID
    sizes: list[int]


@dataclass
class Order:
    lines: list[Line]
    address: Address | None
    extras: Extras
    prices: Mapping[str, float] = field(default_factory=dict)
    model: Model | None = None
    at: Point | None = None
    either: Line | list[int] | None = None


class Page(msgspec.Struct, Generic[Item]):
    items: list[Item]
    total: int


def faults(type: Any, document: Any) -> DecodeError:
    with pytest.raises(DecodeError) as raised:
        CODEC.decoder(type)(json.dumps(document).encode())
    return raised.value


def paths(error: DecodeError) -> list[str]:
    return [fault["path"] for fault in error.details["faults"]]


def test_all_faults_are_told_each_with_its_path() -> None:
    error = faults(Order, {
        "lines": [{"article": 1}, {"article": "a", "count": 2}, {"article": "b", "count": "2", "id": "x"}],
        "address": {"postCode": "123456", "houseNumber": None},
        "extras": {"note": 1},
        "prices": {"a": 1.5, "b": "x"},
        "model": {"id": 5, "sizes": [1, "y"]},
        "either": {"article": "a"},
    })  # fmt: skip
    assert error.details == {
        "faults": [
            {"path": "lines[0].article", "reason": "expected str, got int"},
            {"path": "lines[0].count", "reason": "is missing"},
            {"path": "lines[2].count", "reason": "expected int, got str"},
            {"path": "lines[2].id", "reason": "invalid UUID"},
            {"path": "address.postCode", "reason": "expected str of length <= 5"},
            {"path": "address.houseNumber", "reason": "expected int, got null"},
            {"path": "extras.gift", "reason": "is missing"},
            {"path": "extras.note", "reason": "expected str, got int"},
            {"path": "prices.b", "reason": "expected float, got str"},
            {"path": "model.id", "reason": "UUID input should be a string, bytes or UUID object"},
            {
                "path": "model.sizes[1]",
                "reason": "input should be a valid integer, unable to parse string as an integer",
            },
            {"path": "either.count", "reason": "is missing"},
        ],
        "complete": True,
    }
    assert error.detail.startswith(
        "field 'lines[0].article': expected str, got int; field 'lines[0].count' is missing; field 'lines[2].count': "
    )
    assert error.detail.endswith("; and 7 more faults")


@pytest.mark.parametrize(
    ("type", "document", "expected"),
    [
        (Line, [], [""]),
        (Line, {}, ["article", "count"]),
        (Sequence[int], [1, "a", None], ["[1]", "[2]"]),
        (tuple[int, ...], ["a", 1, "b"], ["[0]", "[2]"]),
        (dict[int, int], {"1": "a", "2": "b"}, ["1", "2"]),
        (Point, ["a", "b"], ["[0]"]),
        (Model, {"sizes": ["a"]}, ["id", "sizes[0]"]),
        (list[Model], [{"id": "x", "sizes": []}, {}], ["[0].id", "[1].id", "[1].sizes"]),
        (Annotated[list[int], msgspec.Meta(max_length=1)], [1, 2], [""]),
        (Page[Line], {"items": [{}], "total": "x"}, ["items[0].article", "total"]),
        (Line | None, {"count": 1}, ["article"]),
    ],
)
def test_faults_of_every_kind_of_payload(type: Any, document: Any, expected: list[str]) -> None:
    assert paths(faults(type, document)) == expected


def test_a_reason_keeps_the_letters_of_a_name() -> None:
    class Uuid(pydantic.BaseModel):
        id: uuid.UUID

    error = faults(Uuid, {"id": 5})
    assert error.detail == "field 'id': UUID input should be a string, bytes or UUID object"


@pytest.mark.parametrize("count", [20, 21, 1000])
def test_of_many_faults_some_are_told_and_that_there_are_more(count: int) -> None:
    error = faults(list[int], ["a"] * count)
    assert len(error.details["faults"]) == 20
    assert error.details["complete"] is (count <= 20)
    assert error.detail.endswith("; and 15 more faults" if count <= 20 else "; and 15 or more faults")


def test_a_large_document_is_not_looked_through() -> None:
    error = faults(list[Line], [{"article": "a" * 9000}, {"article": "b" * 9000}])
    assert error.detail == "field '[0].count' is missing"
    assert error.details == {"faults": [{"path": "[0].count", "reason": "is missing"}], "complete": False}


def test_what_the_sender_wrote_does_not_make_an_error_too_large_to_travel() -> None:
    class Colour(enum.Enum):
        RED = "red"

    error = faults(dict[str, Colour], {f"{number}{'k' * 300}": "v" * 300 for number in range(20)})
    assert error_from_wire(error_to_wire(error, "paints")).details == error.details
    assert all(len(fault["path"]) <= 100 and len(fault["reason"]) <= 150 for fault in error.details["faults"])
    assert len(error.detail) < 1500
