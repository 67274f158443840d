"""Errors of an application's own at its callers, and those of nested calls that a handler lets through."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from micro_core import (
    BadRequest,
    ConfigError,
    Conflict,
    EncodeError,
    InternalError,
    MicroError,
    NotFound,
    Service,
    Timeout,
    Unavailable,
    endpoint,
    with_options,
)
from micro_core.testing import World, world

pytestmark = pytest.mark.anyio


class CardDeclined(Conflict):
    def __init__(self, card: int) -> None:
        super().__init__(f"card {card} was declined", details={"card": card})

    @property
    def card(self) -> Any:
        return self.details["card"]


class Cards:
    @endpoint(errors=[CardDeclined])
    async def charge(self, card: int) -> str:
        raise CardDeclined(card)

    @endpoint(errors=[CardDeclined])
    async def watch(self, card: int) -> AsyncIterator[str]:
        yield "charging"
        raise CardDeclined(card)

    @endpoint(errors=[CardDeclined])
    async def charge_all(self, cards: AsyncIterator[int]) -> str:
        async for card in cards:
            raise CardDeclined(card)
        return "charged"


def cards_of(here: World) -> Service:
    service = here.service("cards", linger=0)
    service.handler(Cards)
    return service


async def numbers() -> AsyncIterator[int]:
    yield 7


async def test_a_proxy_raises_what_its_contract_names() -> None:
    async with world() as here, cards_of(here), here.client() as client:
        cards = client.proxy("cards", Cards)
        with pytest.raises(CardDeclined) as raised:
            await cards.charge(7)
        assert (raised.value.card, raised.value.code, raised.value.service) == (7, 409, "cards")
        with pytest.raises(CardDeclined, match="card 7 was declined"):
            assert [state async for state in cards.watch(7)]
        with pytest.raises(CardDeclined, match="card 7 was declined"):
            await cards.charge_all(numbers())


async def test_a_call_raises_what_its_options_name() -> None:
    async with world() as here, cards_of(here), here.client() as client:
        with pytest.raises(CardDeclined):
            await client.call("cards", "Cards.Charge", 7, str, errors=[CardDeclined])
        with pytest.raises(Conflict) as raised:
            await client.call("cards", "Cards.Charge", 7, str)
        assert (type(raised.value), raised.value.types, raised.value.details) == (
            Conflict,
            ("CardDeclined",),
            {"card": 7},
        )


async def test_options_of_one_call_keep_what_the_contract_names() -> None:
    class Other(Conflict):
        pass

    async with world() as here, cards_of(here), here.client() as client:
        with pytest.raises(CardDeclined):
            await with_options(client.proxy("cards", Cards), errors=[Other], timeout=3).charge(7)


@pytest.mark.parametrize("wrong", [ValueError, "CardDeclined", None])
def test_errors_that_could_not_travel_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="no subclass of MicroError"):
        endpoint(errors=[wrong])


def test_two_errors_of_one_name_are_refused() -> None:
    other = type("CardDeclined", (Conflict,), {})
    with pytest.raises(ConfigError, match="one name"):
        endpoint(errors=[CardDeclined, other])


async def let_through(here: World, error: MicroError | None, **options: Any) -> MicroError:
    """Return what the caller of a gateway gets when the service behind it answers ``error``, or is not there."""
    gateway = here.service("gateway", linger=0)

    @gateway.handler(name="Gateway")
    async def ask(request: str) -> str:
        reply: str = await gateway.client.call("users", "Users.Get", request, str, **options)
        return reply

    users = here.service("users", linger=0)

    @users.handler(name="Users")
    async def get(request: str) -> str:
        if error is None:
            await anyio.sleep_forever()
        else:
            raise error
        return request

    async with users, gateway, here.client() as client:
        with pytest.raises(MicroError) as raised:
            await client.call("gateway", "Gateway.Ask", "Ada", str)
    return raised.value


async def test_an_answer_that_is_let_through_keeps_text_code_maker_and_details() -> None:
    async with world() as here:
        error = await let_through(here, NotFound("no such user", details={"name": "Ada"}))
    assert isinstance(error, NotFound)
    assert (error.detail, error.code, error.id, error.details) == ("no such user", 404, "users", {"name": "Ada"})


async def test_an_error_of_the_way_that_is_let_through_names_no_address(caplog: pytest.LogCaptureFixture) -> None:
    async with world() as here:
        error = await let_through(here, NotFound(""), address="10.1.2.3:4444", retries=0)
    assert isinstance(error, Unavailable)
    assert (error.detail, error.id) == ("a call to users failed: Service Unavailable", "gateway")
    logged = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert any("10.1.2.3:4444" in record.getMessage() for record in logged)


async def test_a_deadline_that_is_let_through_names_no_node() -> None:
    async with world() as here:
        error = await let_through(here, None, timeout=0.1)
    assert isinstance(error, Timeout)
    assert error.detail == "a call to users failed: Request Timeout"


async def test_a_service_that_is_not_known_does_not_tell_which_are() -> None:
    async with world() as here:
        gateway = here.service("gateway", linger=0)

        @gateway.handler(name="Gateway")
        async def ask() -> str:
            return await gateway.client.call("user", "Users.Get", None, str)

        async with gateway, here.service("users", linger=0), here.client() as client:
            with pytest.raises(Unavailable) as raised:
                await client.call("gateway", "Gateway.Ask", None, str)
    assert raised.value.detail == "a call to user failed: Service Unavailable"


async def test_a_refusal_that_is_let_through_tells_the_faults_and_not_the_endpoints() -> None:
    async with world() as here:
        gateway = here.service("gateway", linger=0)

        @gateway.handler(name="Gateway")
        async def ask() -> str:
            return await gateway.client.call("cards", "Cards.Charge", "seven", str)

        async with cards_of(here), gateway, here.client() as client:
            with pytest.raises(BadRequest) as raised:
                await client.call("gateway", "Gateway.Ask", None, str)
    assert (raised.value.detail, raised.value.id) == ("a call to cards failed: Bad Request", "cards")


async def test_a_reply_with_nan_is_a_fault_of_the_server_and_a_request_one_of_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as here:
        service = here.service("rates", linger=0)

        @service.handler(name="Rates")
        async def rate(number: float) -> dict[str, float | None]:
            return {"rate": number / 0.5, "half": None} if number else {"rate": math.nan}

        async with service, here.client() as client:
            assert await client.call("rates", "Rates.Rate", 1.0, dict) == {"rate": 2.0, "half": None}
            with pytest.raises(InternalError, match="internal error, reference"):
                await client.call("rates", "Rates.Rate", 0.0, dict)
            with pytest.raises(EncodeError, match="it is nan") as raised:
                await client.call("rates", "Rates.Rate", math.nan, dict)
            assert raised.value.executed == "no"
    assert "field 'rate' is nan" in caplog.text


async def test_all_faults_of_a_request_arrive_as_details() -> None:
    @dataclass
    class Order:
        article: str
        count: int

    async with world() as here:
        service = here.service("orders", linger=0)

        async def place(order: Order) -> None: ...

        place.__annotations__["order"] = Order
        service.handler(name="Orders")(place)
        async with service, here.client() as client:
            with pytest.raises(BadRequest, match="field 'article' is missing; field 'count': expected int") as raised:
                await client.call("orders", "Orders.Place", {"count": "x"})
    assert [fault["path"] for fault in raised.value.details["faults"]] == ["article", "count"]
