"""Errors as Go Micro's JSON (docs/wire.md §3.9), with the key of ours (docs/protocol.md §3), in both directions."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from micro_core import (
    BadRequest,
    Conflict,
    DecodeError,
    Executed,
    Forbidden,
    InternalError,
    LimitExceeded,
    MicroError,
    NoNode,
    NotFound,
    RemoteError,
    Timeout,
    Unauthorized,
    Unavailable,
)
from micro_core._wire.errors import error_from_wire, error_to_wire

CLASSES: list[type[MicroError]] = [
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    Timeout,
    Conflict,
    LimitExceeded,
    InternalError,
    Unavailable,
]


def test_an_error_is_written_as_go_writes_it() -> None:
    expected = '{"id":"go.micro.srv","code":404,"detail":"no <é>","status":"Not Found"}'
    assert error_to_wire(NotFound("no <é>", id="go.micro.srv"), "greeter") == expected


def test_an_error_without_maker_is_the_services() -> None:
    assert json.loads(error_to_wire(NotFound("no"), "greeter"))["id"] == "greeter"


@pytest.mark.parametrize("executed", [Executed.NO, Executed.MAYBE])
def test_executed_is_written_where_it_is_not_yes(executed: Executed) -> None:
    text = error_to_wire(Timeout("late", executed=executed), "greeter")
    assert text == f'{{"id":"greeter","code":408,"detail":"late","status":"Request Timeout","executed":"{executed}"}}'


def test_all_four_keys_are_there_even_when_empty() -> None:
    assert error_to_wire(RemoteError(""), "") == '{"id":"","code":0,"detail":"","status":""}'


def test_an_error_of_nobodys_says_nothing_of_itself() -> None:
    error = error_from_wire(error_to_wire(ValueError("secret"), "greeter"))
    assert type(error) is InternalError
    assert error.detail == "internal error"


def test_control_characters_stay_within_the_line() -> None:
    text = error_to_wire(NotFound("a\r\n\x00\x7fb\u2028\ud800"), "greeter")
    assert not any(ord(character) < 0x20 or ord(character) == 0x7F for character in text)
    assert error_from_wire(text).detail == "a\r\n\x00\x7fb\u2028?"


@given(st.text(), st.integers(1, 20_000), st.text())
def test_an_error_fits_a_header_however_long_it_is(detail: str, times: int, id: str) -> None:
    text = error_to_wire(NotFound(detail * times, id=id * times), "greeter")
    assert len(text.encode()) <= 8192
    assert type(error_from_wire(text)) is NotFound


@pytest.mark.parametrize("kind", CLASSES)
@given(detail=st.text(min_size=1), id=st.text(min_size=1), executed=st.sampled_from(Executed))
def test_every_class_comes_back(kind: type[MicroError], detail: str, id: str, executed: Executed) -> None:
    error = error_from_wire(error_to_wire(kind(detail, id=id, executed=executed), "greeter").encode())
    assert type(error) is kind
    assert (error.detail, error.code, error.id, error.executed) == (detail, kind.default_code, id, executed)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(DecodeError("x"), BadRequest), (NoNode("x"), Unavailable), (LimitExceeded("x", code=413), LimitExceeded)],
)
def test_a_class_without_a_code_of_its_own_comes_back_as_the_one_that_has_it(
    error: MicroError, kind: type[MicroError]
) -> None:
    back = error_from_wire(error_to_wire(error, "greeter"))
    assert (type(back), back.code, back.executed) == (kind, error.code, error.executed)


@pytest.mark.parametrize("code", [418, 502, 0, -1, 1_000_000])
def test_any_other_code_is_a_remote_error_with_it(code: int) -> None:
    error = error_from_wire(f'{{"id":"a","code":{code},"detail":"x","status":""}}')
    assert type(error) is RemoteError
    assert (error.code, error.detail) == (code, "x")


def test_what_newer_go_leaves_out_is_empty() -> None:
    error = error_from_wire('{"code":404,"status":"Not Found"}')
    assert type(error) is NotFound
    assert (error.id, error.detail, error.executed) == ("", "Not Found", Executed.YES)


@pytest.mark.parametrize(
    "text",
    [
        "rpc: can't find service Greeter.Hi",
        "",
        "null",
        "[]",
        "{}",
        "{",
        '{"code":"404"}',
        '{"code":1.5}',
        '{"code":99999999999}',
        '{"detail":{}}',
        '{"a":' * 10_000,
        '{"other":1}',
    ],
)
def test_any_other_text_is_the_detail(text: str) -> None:
    error = error_from_wire(text)
    assert type(error) is RemoteError
    assert (error.detail, error.code, error.executed) == (text, 0, Executed.YES)


def test_an_unknown_executed_means_yes() -> None:
    assert error_from_wire('{"code":503,"executed":"perhaps"}').executed is Executed.YES


def test_what_is_no_utf_8_is_read_with_replacements() -> None:
    assert error_from_wire(b"caf\xe9").detail == "caf\ufffd"


class CardDeclined(Conflict):
    """An application's error whose arguments are its own."""

    def __init__(self, card: int) -> None:
        super().__init__(f"card {card} was declined", details={"card": card})

    @property
    def card(self) -> Any:
        return self.details["card"]


class Forgetful(Conflict):
    """Does not call what it inherits."""

    def __init__(self, card: int) -> None:
        self.card = card


def test_details_travel_beside_code_and_text() -> None:
    text = error_to_wire(NotFound("no", details={"tried": ["a", "b"]}), "greeter")
    assert text.endswith('"status":"Not Found","details":{"tried":["a","b"]}}')
    assert error_from_wire(text).details == {"tried": ["a", "b"]}


def test_details_stay_within_the_line() -> None:
    text = error_to_wire(NotFound("no", details="a\r\n\x00\x7f"), "greeter")
    assert not any(ord(character) < 0x20 or ord(character) == 0x7F for character in text)
    assert error_from_wire(text).details == "a\r\n\x00\x7f"


@pytest.mark.parametrize(("details", "reason"), [(["x" * 9000], "too large"), (object(), "they are no JSON")])
def test_details_that_cannot_travel_are_left_out_and_the_text_says_so(details: object, reason: str) -> None:
    error = error_from_wire(error_to_wire(NotFound("no", details=details), "greeter"))
    assert (error.details, error.detail) == (None, f"no (its details are left out: {reason})")


def test_an_applications_error_comes_back_where_the_caller_names_it() -> None:
    error = error_from_wire(error_to_wire(CardDeclined(7), "cards"), [CardDeclined])
    assert isinstance(error, CardDeclined)
    assert (error.card, error.detail, error.code, error.id) == (7, "card 7 was declined", 409, "cards")


def test_an_applications_error_that_the_caller_does_not_name_comes_back_as_its_codes() -> None:
    error = error_from_wire(error_to_wire(CardDeclined(7), "cards"))
    assert (type(error), error.types, error.details) == (Conflict, ("CardDeclined",), {"card": 7})


class CardExpired(CardDeclined):
    """A class that came later than its callers."""


def test_a_class_that_the_caller_does_not_name_comes_back_as_the_nearest_that_it_does() -> None:
    error = error_from_wire(error_to_wire(CardExpired(7), "cards"), [CardDeclined])
    assert type(error) is CardDeclined
    assert error.types == ("CardExpired", "CardDeclined")
    assert type(error_from_wire(error_to_wire(error, "gateway"), [CardDeclined, CardExpired])) is CardExpired


def test_an_error_that_is_sent_on_keeps_its_class() -> None:
    passed_on = error_from_wire(error_to_wire(CardDeclined(7), "cards"))
    assert isinstance(error_from_wire(error_to_wire(passed_on, "gateway"), [CardDeclined]), CardDeclined)


def test_an_error_whose_class_forgot_to_call_what_it_inherits_travels_too() -> None:
    error = error_from_wire(error_to_wire(Forgetful(7), "cards"), [Forgetful])
    assert (type(error), error.code, error.id) == (Forgetful, 500, "cards")


def test_a_class_of_ours_sends_no_name() -> None:
    assert '"types"' not in error_to_wire(DecodeError("x"), "greeter")


LOOKALIKES = st.fixed_dictionaries(
    {},
    optional={
        key: st.none() | st.integers() | st.text() | st.floats()
        for key in ("id", "code", "detail", "status", "executed", "types", "details")
    },
)


@given(st.binary() | st.text() | LOOKALIKES.map(json.dumps))
@example('{"code":404,"detail":"\\ud800"}')
@example("{\ud800}")
def test_no_text_raises(text: Any) -> None:
    assert isinstance(error_from_wire(text), MicroError)
