"""A broker that is down when a service starts: the start goes on, and the subscriptions come when the broker does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
import pytest

from micro_core import ConfigError, ConnectFailed, RegistryError, Service, Subscription
from micro_core.builtin.memory.broker import MemoryBroker
from micro_core.errors import MicroError
from micro_core.testing import World, world

pytestmark = pytest.mark.anyio


class DownBroker(MemoryBroker):
    """Cannot be opened as long as ``error`` is one. Each attempt is counted."""

    def __init__(self, error: Exception | None, **options: Any) -> None:
        super().__init__(**options)
        self.error = error
        self.attempts = 0
        self.subscribed = anyio.Event()

    async def __aenter__(self) -> Self:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        return await super().__aenter__()

    @asynccontextmanager
    async def receive(self, subscription: Subscription) -> AsyncIterator[None]:
        async with super().receive(subscription):
            self.subscribed.set()
            yield


def mailer(here: World, broker: DownBroker, heard: list[str]) -> Service:
    service = here.service("mailer", broker=broker, linger=0)

    @service.subscriber("orders")
    async def mail(order: str) -> None:
        heard.append(order)

    return service


async def test_a_service_starts_while_its_broker_is_down_and_subscribes_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MICRO_REGISTER_INTERVAL", "10ms")
    heard: list[str] = []
    async with world() as here, here.client() as client:
        broker = DownBroker(ConnectFailed("connection refused"), network=here.network)
        async with mailer(here, broker, heard) as service:
            assert await client.call("mailer", "Debug.Health", None, dict) == {"status": "ok"}
            with pytest.raises(ConnectFailed, match="connection refused"):
                await service.client.publish("orders", "tea")
            told = [record for record in caplog.records if record.levelname == "WARNING"]
            assert [record.getMessage() for record in told] == [
                "mailer: topic orders is not announced yet: connection refused"
            ]
            assert not any(record.exc_info for record in caplog.records)
            broker.error = None
            with anyio.fail_after(10):
                await broker.subscribed.wait()
            await client.publish("orders", "tea", confirm=True)
    assert heard == ["tea"]


async def test_a_service_whose_broker_stays_down_stops_in_order() -> None:
    async with world() as here:
        broker = DownBroker(ConnectFailed("connection refused"), network=here.network)
        with anyio.fail_after(10):
            async with mailer(here, broker, []):
                pass
    assert broker.attempts >= 1


@pytest.mark.parametrize(
    "error", [ConfigError("port 5000 is in use"), RegistryError("wrong password", permanent=True)], ids=str
)
async def test_what_waiting_does_not_help_stops_the_start(error: MicroError) -> None:
    async with world() as here:
        broker = DownBroker(error, network=here.network)
        with pytest.raises(type(error), match=error.detail):
            await mailer(here, broker, []).__aenter__()
    assert broker.attempts == 1


async def test_an_error_of_the_system_from_a_broker_is_an_outage_with_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with world() as here:
        broker = DownBroker(OSError(111, "refused"), network=here.network)
        async with mailer(here, broker, []):
            pass
    assert caplog.messages[0] == (
        "mailer: topic orders is not announced yet: the broker cannot be opened: [Errno 111] refused"
    )


async def test_what_only_turns_out_later_not_to_pass_is_logged_once_as_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MICRO_REGISTER_INTERVAL", "10ms")
    async with world() as here:
        broker = DownBroker(ConnectFailed("connection refused"), network=here.network)
        async with mailer(here, broker, []):
            broker.error = RegistryError("wrong password", permanent=True)
            with anyio.fail_after(10):
                while broker.attempts < 5:  # noqa: ASYNC110 - each attempt is given its time
                    await anyio.sleep(0.01)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["mailer: topic orders is not announced: wrong password"]
