"""How a subscription handles messages: retries, dead letters, order, concurrency, leaving."""

from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from micro_broker_http import HttpBroker
from micro_core import SYNC, ConfigError, Message, PublishError, RegistryError, Requeue, Service, Subscription
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry

pytestmark = pytest.mark.anyio


async def test_a_failing_handler_is_tried_again_after_growing_pauses_before_anything_is_acknowledged(registry, message):
    waits, attempts = [], []

    async def sleep(seconds):
        if seconds >= 10:
            await anyio.sleep_forever()
        waits.append(seconds)
        assert broker.stats().waiting == 1

    async def handler(topic, message):
        attempts.append(message.body)
        if len(attempts) < 4:
            raise ValueError("not yet")

    async with HttpBroker(registry, sleep=sleep, random=lambda: 0.5) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, retries=3)):
            await broker.publish("t", message(b"1"), confirm=True)
    assert attempts == [b"1"] * 4
    assert waits == [0.1, 0.2, 0.4]


async def test_what_fails_every_time_goes_to_the_dead_letter_hook_and_is_acknowledged(registry, message, virtual):
    dead = []

    async def handler(topic, message):
        raise ValueError("never")

    async def bury(topic, message, error):
        dead.append((topic, message.body, str(error)))

    async with HttpBroker(registry, sleep=virtual.sleep) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, retries=2, dead_letter=bury)):
            await broker.publish("t", message(b"1"), confirm=True)
    assert dead == [("t", b"1", "never")]


async def test_a_failing_dead_letter_hook_is_tried_until_it_takes_the_message(registry, message, virtual, caplog):
    calls = []

    async def handler(topic, message):
        raise ValueError("never")

    async def bury(topic, message, error):
        calls.append(message.body)
        if len(calls) < 3:
            raise OSError("disk full")

    async with HttpBroker(registry, sleep=virtual.sleep) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, retries=0, dead_letter=bury)):
            await broker.publish("t", message(b"1"), confirm=True)
    assert calls == [b"1"] * 3
    assert "dead letter of a message on 't' was not taken" in caplog.text


async def test_without_a_hook_a_dead_letter_is_logged_and_the_next_message_comes(registry, message, virtual, caplog):
    handled = []

    async def handler(topic, message):
        if message.body == b"1":
            raise ValueError("never")
        handled.append(message.body)

    async with HttpBroker(registry, sleep=virtual.sleep) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, retries=1)):
            with pytest.raises(PublishError, match="not handled by t-"):
                await broker.publish("t", message(b"1"), confirm=True)
            await broker.publish("t", message(b"2"), confirm=True)
    assert handled == [b"2"]
    assert "given up" in caplog.text


@pytest.mark.parametrize(("concurrency", "expected"), [(1, 1), (4, 4)])
async def test_as_many_messages_are_handled_at_a_time_as_asked_for(registry, message, concurrency, expected):
    running, most, full = 0, 0, anyio.Event()

    async def handler(topic, message):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == expected:
            full.set()
        await full.wait()
        await anyio.lowlevel.checkpoint()
        running -= 1

    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, concurrency=concurrency)):
            for number in range(20):
                await broker.publish("t", message(b"%d" % number))
            with anyio.fail_after(20):
                await broker.flush()
    assert most == expected


async def test_leaving_waits_for_the_running_handler_and_another_member_gets_the_rest(registry, collector, message):
    started, release, handled = anyio.Event(), anyio.Event(), []
    rest = collector()

    async def slow(topic, message):
        started.set()
        await release.wait()
        handled.append(message.body)

    async with HttpBroker(registry) as publisher, HttpBroker(registry) as first, HttpBroker(registry) as second:
        async with first.subscribe(Subscription(topic="t", handler=slow, queue="q")):
            for number in range(5):
                await publisher.publish("t", message(b"%d" % number))
            await started.wait()
            member = second.subscribe(Subscription(topic="t", handler=rest, queue="q"))
            await member.__aenter__()
            release.set()
        assert b"0" in handled
        with anyio.fail_after(20):
            await publisher.flush()
        await member.__aexit__(None, None, None)
    assert sorted(handled + rest.bodies) == [b"%d" % number for number in range(5)]
    assert publisher.stats().dropped == 0


async def test_leaving_is_bounded_where_a_handler_does_not_finish(registry, message):
    cancelled, started = [], anyio.Event()

    async def stuck(topic, message):
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(message.body)

    async with HttpBroker(registry, drain_timeout=0.1) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=stuck)):
            await broker.publish("t", message(b"1"))
            await started.wait()
        assert cancelled == [b"1"]


async def test_two_subscriptions_of_one_topic_have_different_nodes_and_both_get_all(registry, collector, message):
    first, second = collector(), collector()
    async with HttpBroker(registry) as broker:
        async with (
            broker.subscribe(Subscription(topic="t", handler=first)),
            broker.subscribe(Subscription(topic="t", handler=second)),
        ):
            [record] = await registry.lookup("go.micro.http.broker")
            await broker.publish("t", message(b"1"), confirm=True)
        assert await registry.lookup("go.micro.http.broker") == []
    assert len({node.id for node in record.nodes}) == 2
    assert first.bodies == second.bodies == [b"1"]


async def test_a_topic_that_cannot_be_published_is_refused(registry, collector):
    async with HttpBroker(registry) as broker:
        with pytest.raises(ConfigError, match="52 bytes"):
            async with broker.subscribe(Subscription(topic="x" * 60, handler=collector())):
                pass


async def test_a_subscription_that_the_registry_forgets_is_back_within_a_second(registry, collector):
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=collector())):
            before = await registry.lookup("micro.http.broker")
            await anyio.wait_all_tasks_blocked()
            registry.forget()
            async with registry.watch("micro.http.broker") as changes:
                with anyio.fail_after(1):
                    while await anext(changes) == SYNC:
                        pass
            assert await registry.lookup("micro.http.broker") == before


async def test_a_subscription_is_registered_for_as_long_and_as_often_as_the_settings_say(monkeypatch):
    registered = []

    class Counting(MemoryRegistry):
        async def register(self, record, *, ttl=60.0):
            registered.append((record.name, ttl))
            await super().register(record, ttl=ttl)

    monkeypatch.setenv("MICRO_REGISTER_TTL", "7s")
    monkeypatch.setenv("MICRO_REGISTER_INTERVAL", "20ms")
    service = Service("s", registry=Counting(network=MemoryNetwork()), transport="memory", broker="http", linger=0)

    @service.subscriber("t")
    async def take(body: bytes) -> None: ...

    async with service:
        with anyio.fail_after(20):
            while len(registered) < 12:  # noqa: ASYNC110 - a registry tells nobody that it was asked
                await anyio.sleep(0.01)
    assert set(registered) == {(name, 7.0) for name in ("s", "micro.http.broker", "go.micro.http.broker")}


async def test_a_subscription_begins_while_its_registry_is_down(collector, message):
    class Down(MemoryRegistry):
        down = True

        async def register(self, record, *, ttl=60.0):
            if self.down:
                raise RegistryError("refused")
            await super().register(record, ttl=ttl)

    registry, received = Down(network=MemoryNetwork()), collector()
    async with HttpBroker(registry, register_interval=0.02) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            assert await registry.lookup("micro.http.broker") == []
            Down.down = False
            async with registry.watch("micro.http.broker") as changes:
                with anyio.fail_after(20):
                    while await anext(changes) == SYNC:
                        pass
            await broker.publish("t", message(b"1"), confirm=True)
    assert received.bodies == [b"1"]


async def test_headers_and_bodies_of_any_bytes_arrive_as_they_were(registry, collector):
    received = collector()
    odd = Message({b"Micro-Id": b"\xff\xfe", b"X": b""}, bytes(range(256)))
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            await broker.publish("t", odd, confirm=True)
    assert received.got == [("t", odd)]


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_message_that_is_to_come_again_waits_at_its_publisher_and_holds_nobody_up(
    registry, message, concurrency
):
    handled, again = [], anyio.Event()

    async def handler(topic, message):
        if message.body == b"later" and message.delivery.attempt == 1:
            raise Requeue(after=0.3)
        handled.append((message.body, message.delivery.attempt, message.delivery.redelivered))
        if message.body == b"later":
            again.set()

    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, concurrency=concurrency)):
            await broker.publish("t", message(b"later"))
            await broker.publish("t", message(b"1"), confirm=True)
            assert (handled, broker.stats().waiting) == ([(b"1", 1, False)], 1)
            with anyio.fail_after(20):
                await again.wait()
                await broker.flush()
    assert handled[1] == (b"later", 2, True)
    assert broker.stats().dropped == 0


async def test_a_message_that_one_member_wants_again_may_go_to_another(registry, message):
    seen, done = [], anyio.Event()

    def member(name):
        async def handler(topic, message):
            seen.append((name, message.delivery.id, message.delivery.attempt))
            if len({name for name, *_ in seen}) < 2:
                raise Requeue(after=0.001)
            done.set()

        return handler

    async with HttpBroker(registry) as one, HttpBroker(registry) as other, HttpBroker(registry) as publisher:
        wanted: dict[str, Any] = {"topic": "t", "queue": "q", "retries": 1000}
        async with one.subscribe(Subscription(handler=member("one"), **wanted)):
            async with other.subscribe(Subscription(handler=member("other"), **wanted)):
                await publisher.publish("t", message(b"1"))
                with anyio.fail_after(20):
                    await done.wait()
    assert len({id for _, id, _ in seen}) == 1
    assert [attempt for *_, attempt in seen] == list(range(1, len(seen) + 1))


async def test_what_is_to_come_again_is_given_up_with_the_rest_when_nobody_is_left(registry, message, virtual):
    async def handler(topic, message):
        raise Requeue(after=3600)

    async with HttpBroker(registry) as there, HttpBroker(registry, sleep=virtual.sleep) as here:
        with anyio.fail_after(20):
            async with there.subscribe(Subscription(topic="t", handler=handler)):
                await here.publish("t", message(b"1"))
                await virtual.slumber.wait()  # the message rests
                virtual.slumber = anyio.Event()
            await virtual.slumber.wait()  # and nobody is left
            virtual.advance(60)
            assert await here.flush() == 0
    assert here.stats().dropped == 1


async def test_a_background_task_of_the_broker_sees_nothing_of_the_context_that_first_published(
    registry, message, peers
):
    request = ContextVar("request", default="none")
    seen, slept = [], anyio.Event()

    async def sleep(seconds):
        seen.append(request.get())
        slept.set()
        await anyio.sleep_forever()

    async with peers() as them, HttpBroker(registry, sleep=sleep, drain_timeout=0) as here:
        await them.add("t-1", them.status(503))
        request.set("first")
        await here.publish("t", message(b"1"))
        with anyio.fail_after(20):
            await slept.wait()
    assert set(seen) == {"none"}
