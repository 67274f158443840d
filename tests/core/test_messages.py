"""What the core does round every message, whatever the broker: guards, credentials, middleware, dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from micro_core import (
    Broker,
    ConfigError,
    ConnectFailed,
    Context,
    Delivery,
    Forbidden,
    Message,
    PluginHost,
    Publication,
    PublishError,
    Reject,
    Requeue,
    Service,
    hookimpl,
)
from micro_core.builtin.memory.broker import MemoryBroker
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.middleware import Guard, PublishMiddleware, PublishNext
from micro_core.testing import world

pytestmark = pytest.mark.anyio


def only_with_token(context: Context) -> None:
    if context.headers.get(b"Authorization") != b"Bearer t":
        raise Forbidden(f"no {context.endpoint} for you")


@hookimpl
def guard() -> Guard:
    return only_with_token


@hookimpl
def credentials() -> Mapping[str, str]:
    return {"Authorization": "Bearer t"}


class Shop:
    """A service on the memory parts, whose broker knows nothing of guards."""

    def __init__(self, **hooks: Any) -> None:
        self.network = MemoryNetwork()
        self.broker = MemoryBroker(network=self.network)
        host = PluginHost()
        host.register("extension", "ours", SimpleNamespace(**hooks))
        self.service = Service(
            "shop",
            registry="memory",
            transport="memory",
            broker=self.broker,
            extensions="ours",
            plugins=host,
            linger=0,
        )
        self.dead: list[tuple[bytes, str]] = []
        self.came = anyio.Event()

    async def bury(self, topic: str, message: Message, error: Exception) -> None:
        self.dead.append((message.body, str(error)))
        self.came.set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Service]:
        with self.network.current():
            async with self.service:
                yield self.service


async def test_a_guard_is_asked_about_every_message_though_the_broker_knows_nothing_of_guards() -> None:
    shop, seen = Shop(guard=guard), list[str]()

    @shop.service.subscriber("orders", retries=3, dead_letter=shop.bury)
    async def order(message: str) -> None:
        seen.append(message)

    async with shop.open() as service:
        with pytest.raises(PublishError, match="was not handled"):
            await service.client.publish("orders", "stolen", confirm=True)
        await service.client.publish("orders", "paid", metadata={"authorization": "Bearer t"}, confirm=True)
    assert seen == ["paid"]
    assert shop.dead == [], "what was refused is handed to nobody"


async def test_what_is_published_carries_the_credentials_though_the_broker_knows_nothing_of_them() -> None:
    shop, seen = Shop(guard=guard, credentials=credentials), list[str]()

    @shop.service.subscriber("orders")
    async def order(message: str) -> None:
        seen.append(message)

    async with shop.open() as service:
        await service.client.publish("orders", "paid", confirm=True)
    assert seen == ["paid"]


async def test_a_dead_letter_that_goes_to_a_topic_is_published_with_our_own_credentials() -> None:
    shop, seen = Shop(guard=guard, credentials=credentials), list[str | None]()

    @shop.service.subscriber("orders", retries=0, dead_letter="graves")
    async def order(message: str) -> None:
        raise RuntimeError("never")

    @shop.service.subscriber("graves")
    async def graves(message: str, context: Context) -> None:
        seen.extend((message, context.metadata.get("Micro-Dead-Topic"), context.metadata["Micro-Dead-Error"]))
        shop.came.set()

    async with shop.open() as service:
        await service.client.publish("orders", "paid")
        with anyio.fail_after(20):
            await shop.came.wait()
    assert seen == ["paid", "orders", "RuntimeError: never"]


async def test_middleware_goes_round_publishing_and_may_add_headers() -> None:
    told: list[str] = []

    async def trace(publication: Publication, publish_next: PublishNext) -> None:
        told.append(f"{publication.topic} {publication.confirm}")
        publication.message.headers[b"Traceparent"] = b"ours"
        await publish_next(publication)
        told.append("done")

    @hookimpl
    def publish_middleware() -> PublishMiddleware:
        return trace

    shop = Shop(publish_middleware=publish_middleware)

    @shop.service.subscriber("orders")
    async def order(message: str, context: Context) -> None:
        told.append(context.metadata["Traceparent"])

    async with shop.open() as service:
        await service.client.publish("orders", "paid", confirm=True)
    assert told == ["orders handled", "ours", "done"]


async def test_a_message_that_cannot_be_read_is_a_dead_letter_after_one_attempt(
    caplog: pytest.LogCaptureFixture, anyio_backend: Any
) -> None:
    shop = Shop()

    @shop.service.subscriber("numbers", retries=3, dead_letter=shop.bury)
    async def number(message: int) -> None:
        raise AssertionError("it is none")

    async with shop.open() as service:
        await service.client.publish("numbers", "seven", confirm=True)
    [(body, error)] = shop.dead
    assert body == b'"seven"'
    assert "int" in error
    assert caplog.text.count("attempt 1 of 4") == 1
    assert "attempt 2" not in caplog.text


async def test_a_subscriber_reads_how_its_message_came_and_may_want_it_again_or_not_at_all() -> None:
    shop, seen = Shop(), list[Delivery | None]()

    @shop.service.subscriber("orders", retries=3, dead_letter=shop.bury)
    async def order(message: str, context: Context) -> None:
        seen.append(context.delivery)
        raise Requeue(after=0.01) if len(seen) < 2 else Reject("no such thing")

    async with shop.open() as service:
        await service.client.publish("orders", "paid", confirm=True)
    assert [delivery and delivery.attempt for delivery in seen] == [1, 2]
    assert shop.dead == [(b'"paid"', "no such thing")]


async def test_all_nodes_of_a_service_share_the_queue_that_is_true() -> None:
    seen: list[str] = []
    async with world() as w, w.client() as client:
        services = [w.service("shop", linger=0), w.service("shop", linger=0), w.service("bank", linger=0)]
        for service in services:

            @service.subscriber("orders", queue=True)
            async def order(message: str, context: Context) -> None:
                seen.append(context.service)

        async with services[0], services[1], services[2]:
            await client.publish("orders", "paid", confirm=True)
    assert sorted(seen) == ["bank", "shop"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"start": "all"}, "does not offer start=.*NATS"),
        ({"ack_wait": 3}, "does not offer ack_wait="),
        ({"options": {"prefetch": 3}}, "no option 'prefetch'"),
    ],
)
async def test_a_subscriber_that_asks_for_what_the_broker_has_not_stops_the_start(
    options: dict[str, Any], reason: str, anyio_backend: Any
) -> None:
    shop = Shop()

    @shop.service.subscriber("orders", **options)
    async def order(message: str) -> None: ...

    with pytest.raises(ConfigError, match=reason):
        async with shop.open():
            pass


@pytest.mark.parametrize(
    "options",
    [
        {"backoff": -1},
        {"backoff": ()},
        {"ack_wait": -1},
        {"dead_letter": "a b"},
        {"concurrency": 0},
        {"retries": -1},
        {"durrable": True},
    ],
)
def test_a_subscriber_that_cannot_be_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Service("shop").subscriber("orders", **options)(order)


async def order(message: str) -> None: ...


@pytest.mark.parametrize("topic", ["", "a b", "a..b", "a*", "a.>.b", "x" * 256])
def test_a_topic_that_cannot_be_is_refused_where_it_is_written(topic: str) -> None:
    with pytest.raises(ConfigError, match="cannot be subscribed to"):
        Service("shop").subscriber(topic)(order)


async def test_what_publishing_asks_for_and_the_broker_has_not_is_refused_with_the_name_of_who_has() -> None:
    async with world() as w, w.client() as client:
        with pytest.raises(ConfigError, match=r"'memory' does not offer confirm=.stored.: .*NATS"):
            await client.publish("orders", 1, confirm="stored")
        with pytest.raises(ConfigError, match=r"does not offer key=: .*Kafka"):
            await client.publish("orders", 1, key="one")
        with pytest.raises(ConfigError, match="valid: 'kept', 'stored', 'handled'"):
            await client.publish("orders", 1, confirm="soon")  # type: ignore[call-overload]


class Slow(MemoryBroker):
    """A broker whose server is down at first."""

    tries = 0

    async def __aenter__(self) -> Slow:
        Slow.tries += 1
        if Slow.tries < 3:
            raise ConnectFailed("the server is down")
        await super().__aenter__()
        return self


async def test_a_broker_that_is_down_at_the_start_is_tried_again_and_holds_nothing_up() -> None:
    Slow.tries = 0
    came = anyio.Event()
    network = MemoryNetwork()
    broker: Broker = Slow(network=network)
    with network.current():
        service = Service("shop", registry="memory", transport="memory", broker=broker, linger=0)

        @service.subscriber("orders")
        async def order(message: str) -> None:
            came.set()

        async with service:
            with anyio.fail_after(20):
                while not came.is_set():
                    try:
                        await service.client.publish("orders", "paid", confirm=True)
                    except (ConnectFailed, PublishError):
                        await anyio.sleep(0.05)
    assert Slow.tries == 3
