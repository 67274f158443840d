"""Texts of a configuration string become a constructor's arguments."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import ConfigError, build
from micro_core._settings.values import convert, parse_duration, valid

if TYPE_CHECKING:
    from decimal import Decimal


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Wide:
    def __init__(
        self,
        registry: object,
        *,
        text: str = "",
        count: int = 0,
        timeout: float = 0.0,
        native: bool = False,
        mode: Literal["auto", "off"] = "auto",
        colour: Colour = Colour.RED,
        hosts: Sequence[str] = (),
        sizes: list[int] | None = None,
        limit: int | None = 1,
        times: tuple[float, ...] = (),
        where: Path = Path("."),
        marked: Annotated[int, "pieces"] = 0,
        clock: Callable[[], float] = lambda: 0.0,
        price: Decimal | None = None,
        token: int = 0,
    ) -> None:
        self.values = dict(locals())


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("text", "a,b", "a,b"),
        ("count", "-7", -7),
        ("timeout", "500ms", 0.5),
        ("timeout", "1m30s", 90.0),
        ("timeout", "1.5", 1.5),
        ("native", "Yes", True),
        ("native", "0", False),
        ("mode", "off", "off"),
        ("colour", "blue", Colour.BLUE),
        ("hosts", "a, b", ("a", "b")),
        ("hosts", "", ()),
        ("sizes", "1,2", [1, 2]),
        ("limit", "", None),
        ("limit", "3", 3),
        ("times", "1s,2", (1.0, 2.0)),
        ("where", "/etc/x", Path("/etc/x")),
        ("marked", "3", 3),
    ],
)
def test_text_becomes_a_value_of_the_annotated_type(option: str, text: str, expected: object) -> None:
    made = build(Wide, {option: text}, registry="r")

    assert made.values[option] == expected
    assert made.values["registry"] == "r"


@pytest.mark.parametrize(
    ("option", "text", "what_is_valid"),
    [
        ("count", "many", "a whole number"),
        ("count", "1_000", "a whole number"),
        ("count", "٣", "a whole number"),
        ("count", "9" * 5000, "a whole number"),
        ("timeout", "5 parsecs", "500ms, 5s or 1m"),
        ("timeout", "nan", "500ms, 5s or 1m"),
        ("timeout", "1e999", "500ms, 5s or 1m"),
        ("timeout", "-", "500ms, 5s or 1m"),
        ("native", "perhaps", "true or false"),
        ("mode", "fast", "one of auto, off"),
        ("colour", "green", "one of red, blue"),
        ("sizes", "1,x", "a list, separated by commas, each a whole number"),
        ("limit", "none", "a whole number"),
    ],
)
def test_wrong_value_is_refused_with_what_is_valid(option: str, text: str, what_is_valid: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Wide, {option: text}, registry="r")

    assert f"option {option}='{text[:100]}'" in refused.value.detail
    assert "Wide" in refused.value.detail
    assert what_is_valid in refused.value.detail


def test_unknown_option_is_refused_with_a_near_miss_and_the_valid_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"Wide has no option 'tiemout'; did you mean 'timeout'\?.*: colour, count, ho"
    ):
        build(Wide, {"tiemout": "1s"}, registry="r")


@pytest.mark.parametrize("name", ["registry", "clock", "price", "self", "text"])
def test_what_is_given_or_cannot_be_written_is_no_option(name: str) -> None:
    with pytest.raises(ConfigError, match=f"no option '{name}'"):
        build(Wide, {name: "x"}, registry="r", text="given")


def test_missing_option_is_named() -> None:
    with pytest.raises(ConfigError, match="Wide needs the option 'registry'"):
        build(Wide, {})


def test_secret_value_is_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        build(Wide, {"token": "hunter2"}, registry="r")

    assert "hunter2" not in refused.value.detail
    assert "token='***'" in refused.value.detail


def test_function_and_dataclass_can_be_built_too() -> None:
    @dataclass
    class Made:
        size: int

    def make(size: int) -> Made:
        return Made(size + 1)

    assert build(Made, {"size": "1"}) == build(make, {"size": "0"}) == Made(1)


@given(
    st.text(max_size=50), st.sampled_from([str, int, float, bool, list[int], int | None, Literal["a"], Colour, Path])
)
def test_any_text_is_a_value_or_a_value_error(text: str, annotation: Any) -> None:
    try:
        convert(text, annotation)
    except ValueError:
        assert valid(annotation)


@given(st.floats(min_value=0, max_value=1e9))
def test_bare_number_is_seconds(seconds: float) -> None:
    assert parse_duration(repr(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h15m30.918s", 4530.918),
        ("1µs", 1e-6),
        ("1μs", 1e-6),
        ("100ns", 1e-7),
        ("-1.5s", -1.5),
        ("+5s", 5.0),
        (".5s", 0.5),
        ("0", 0.0),
    ],
)
def test_go_durations_are_read(text: str, seconds: float) -> None:
    assert math.isclose(parse_duration(text), seconds)


@pytest.mark.parametrize("text", ["", "s", "5 s", "5x", "5s!", "--5s", "1,5s", "inf", "5S", "٣s", "1s2"])
def test_what_go_would_not_read_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
