"""What every broker owes: the promises of `micro_core.broker`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, ClassVar

import anyio
import pytest

from micro_conformance.suite import Suite, promise
from micro_core import Broker, Closed, Message, PublishError, Subscription
from micro_core.testing import make_part

__all__ = ["BrokerConformance", "Inbox"]


class BrokerConformance(Suite):
    """Subclass it, and give ``plugin`` and ``options``. Topics begin with ``conformance-`` and a random text."""

    kind = "broker"
    capabilities: ClassVar[Mapping[str, str]] = {
        "queue": "members of a queue share the messages",
        "retries": "a message whose handler failed is handled again, and a dead letter in the end",
        "small outbox": "`small_outbox` are options with which two messages, or a few more, fill the outbox",
    }
    registry: ClassVar[str] = "memory"
    """The configuration string of the registry that the broker gets."""
    small_outbox: ClassVar[Mapping[str, Any]] = {}
    """Options for an outbox that few messages fill."""
    publisher: ClassVar[tuple[str, ...]] = ()
    """The names that a subscriber verifies the brokers of the tests by; none where they prove nothing."""

    @asynccontextmanager
    async def broker(self, options: Mapping[str, Any] | None = None) -> AsyncIterator[Broker]:
        """Open a new broker with a registry of its own; all of one test meet."""
        with self.network.current():
            registry = make_part("registry", self.registry)
            made = make_part(self.kind, self.plugin, {**self.options, **(options or {})}, registry=registry)
        assert isinstance(made, Broker)
        async with registry, made:
            yield made

    @property
    def topic(self) -> str:
        """The topic of this test."""
        return f"conformance-{self.unique}"

    def to(self, inbox: Inbox, **fields: Any) -> Subscription:
        """Return a subscription of this test's topic for an inbox."""
        return Subscription(**{"topic": self.topic, "handler": inbox.handle, **fields})

    # Who gets what

    @promise()
    async def test_topic_headers_and_body_arrive_as_they_were_published(self) -> None:
        inbox, headers = Inbox(), {b"Content-Type": b"text/plain", b"x-odd-CASE": "Grüße, a=b".encode(), b"Empty": b""}
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            await here.publish(self.topic, Message(headers, b"body"))
            topic, message = await inbox.got()
        assert (topic, message.body) == (self.topic, b"body")
        assert message.headers.items() >= headers.items()

    @promise()
    async def test_empty_binary_and_large_bodies_arrive(self) -> None:
        inbox, bodies = Inbox(), [b"", bytes(range(256)), b"x" * self.largest_body]
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for body in bodies:
                await here.publish(self.topic, Message({}, body))
            await inbox.got(3)
        assert inbox.bodies == bodies

    @promise()
    async def test_every_subscriber_gets_every_message(self) -> None:
        one, other = Inbox(), Inbox()
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            async with there.subscribe(self.to(one)), elsewhere.subscribe(self.to(other)):
                for number in range(5):
                    await here.publish(self.topic, Message({}, b"%d" % number), confirm=True)
        assert one.bodies == other.bodies == [b"0", b"1", b"2", b"3", b"4"]

    @promise(needs="queue")
    async def test_one_member_of_a_queue_gets_each_message(self) -> None:
        one, other, sent = Inbox(), Inbox(), [b"%d" % number for number in range(20)]
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            async with there.subscribe(self.to(one, queue="q")), elsewhere.subscribe(self.to(other, queue="q")):
                for body in sent:
                    await here.publish(self.topic, Message({}, body), confirm=True)
        assert sorted(one.bodies + other.bodies) == sorted(sent)

    @promise(needs="queue")
    async def test_every_queue_and_who_has_none_get_a_message_each(self) -> None:
        boxes = [Inbox(), Inbox(), Inbox()]
        async with self.broker() as here, AsyncExitStack() as stack:
            for inbox, queue in zip(boxes, ("q", "r", ""), strict=True):
                there = await stack.enter_async_context(self.broker())
                await stack.enter_async_context(there.subscribe(self.to(inbox, queue=queue)))
            await here.publish(self.topic, Message({}, b"one"), confirm=True)
        assert [inbox.bodies for inbox in boxes] == [[b"one"]] * 3

    @promise()
    async def test_other_topics_stay_away(self) -> None:
        inbox, other = Inbox(), Inbox()
        async with self.broker() as here, self.broker() as there:
            more = Subscription(topic=f"{self.topic}-more", handler=other.handle)
            async with there.subscribe(self.to(inbox)), there.subscribe(more):
                await here.publish(f"{self.topic}-more", Message({}, b"other"), confirm=True)
                await here.publish(self.topic, Message({}, b"ours"), confirm=True)
                await other.got()
                await inbox.got()
        assert (inbox.bodies, other.bodies) == ([b"ours"], [b"other"])

    @promise()
    async def test_messages_keep_their_order(self) -> None:
        inbox, sent = Inbox(), [b"%d" % number for number in range(200)]
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for body in sent:
                await here.publish(self.topic, Message({}, body))
            await inbox.got(200)
        assert inbox.bodies == sent

    @promise()
    async def test_a_message_changed_by_one_subscriber_is_whole_for_the_others(self) -> None:
        seen: list[Mapping[bytes, bytes]] = []

        async def spoil(topic: str, message: Message) -> None:
            seen.append(dict(message.headers))
            message.headers.clear()

        async with self.broker() as here, self.broker() as there:
            one, other = self.to(Inbox(), handler=spoil), self.to(Inbox(), handler=spoil, queue="q")
            async with there.subscribe(one), there.subscribe(other):
                await here.publish(self.topic, Message({b"Kept": b"1"}, b""), confirm=True)
        assert [headers.get(b"Kept") for headers in seen] == [b"1", b"1"]

    @promise()
    async def test_a_message_has_the_names_that_its_publisher_was_verified_by_and_no_others(self) -> None:
        inbox = Inbox()
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            await here.publish(self.topic, Message({}, b"one", peer=("somebody", "else")), confirm=True)
            await inbox.got()
        assert [message.peer for _, message in inbox.messages] == [self.publisher]

    # How many at a time

    @promise()
    async def test_one_message_is_handled_at_a_time_unless_more_are_asked_for(self) -> None:
        inbox = Inbox(hold=True)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for _ in range(3):
                await here.publish(self.topic, Message({}, b""))
            await inbox.got()
            await anyio.sleep(0.2)
            assert len(inbox.bodies) == 1
            inbox.release()

    @promise()
    async def test_as_many_as_asked_for_are_handled_at_a_time_and_no_more(self) -> None:
        inbox = Inbox(hold=True)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, concurrency=3)):
            for _ in range(5):
                await here.publish(self.topic, Message({}, b""))
            await inbox.got(3)
            await anyio.sleep(0.2)
            assert len(inbox.bodies) == 3
            inbox.release()

    # What publishing means

    @promise()
    async def test_publishing_to_nobody_is_an_error(self) -> None:
        async with self.broker() as here:
            with pytest.raises(PublishError) as raised:
                await here.publish(self.topic, Message({}, b""))
        assert raised.value.detail

    @promise()
    async def test_publishing_does_not_wait_for_the_handler(self) -> None:
        inbox = Inbox(hold=True)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            await here.publish(self.topic, Message({}, b"one"))
            await inbox.got()
            inbox.release()

    @promise()
    async def test_confirming_waits_until_the_handler_has_returned(self) -> None:
        done: list[bytes] = []

        async def slowly(topic: str, message: Message) -> None:
            await anyio.sleep(0.1)
            done.append(message.body)

        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(Inbox(), handler=slowly)):
            await here.publish(self.topic, Message({}, b"one"), confirm=True)
            assert done == [b"one"]

    @promise()
    async def test_confirming_names_who_has_not_handled_it(self) -> None:
        good, bad = Inbox(), Inbox(failures=1)
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            async with there.subscribe(self.to(good)), elsewhere.subscribe(self.to(bad, retries=0)):
                with pytest.raises(PublishError) as raised:
                    await here.publish(self.topic, Message({}, b"one"), confirm=True)
        assert len(raised.value.failed) == 1
        assert good.bodies == [b"one"]

    @promise(needs="small outbox")
    async def test_publishing_waits_for_room_in_the_outbox(self) -> None:
        if not self.small_outbox:
            pytest.skip("not claimed: small outbox, no small_outbox is given")
        inbox, published = Inbox(hold=True), list[int]()

        async def publish() -> None:
            for number in range(100):
                await here.publish(self.topic, Message({}, b"%d" % number))
                published.append(number)

        async with self.broker(self.small_outbox) as here, self.broker() as there, there.subscribe(self.to(inbox)):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                await inbox.got()
                await anyio.sleep(0.2)
                assert len(published) < 50
                inbox.release()
            await inbox.got(100)

    # Failing handlers

    @promise(needs="retries")
    async def test_a_message_whose_handler_fails_is_handled_again(self) -> None:
        inbox = Inbox(failures=2)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=2)):
            await here.publish(self.topic, Message({}, b"one"), confirm=True)
        assert inbox.bodies == [b"one"] * 3

    @promise(needs="retries")
    async def test_a_message_that_is_handled_again_keeps_the_names_of_its_publisher(self) -> None:
        inbox = Inbox(failures=1)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=1)):
            await here.publish(self.topic, Message({}, b"one"), confirm=True)
        assert [message.peer for _, message in inbox.messages] == [self.publisher] * 2

    @promise(needs="retries")
    async def test_a_message_is_retried_as_often_as_asked_for_and_no_more(self) -> None:
        inbox = Inbox(failures=100)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=1)):
            await here.publish(self.topic, Message({}, b"one"))
            await inbox.got(2)
            await anyio.sleep(0.5)
        assert len(inbox.bodies) == 2

    @promise(needs="retries")
    async def test_a_message_that_fails_every_time_is_a_dead_letter_and_confirmed(self) -> None:
        dead: list[tuple[str, bytes, str]] = []

        async def bury(topic: str, message: Message, error: Exception) -> None:
            dead.append((topic, message.body, str(error)))

        inbox = Inbox(failures=100)
        wanted = self.to(inbox, retries=0, dead_letter=bury)
        async with self.broker() as here, self.broker() as there, there.subscribe(wanted):
            await here.publish(self.topic, Message({}, b"one"), confirm=True)
        assert dead == [(self.topic, b"one", "it shall fail")]

    @promise()
    async def test_a_message_that_fails_stops_none_behind_it(self) -> None:
        inbox = Inbox(failures=1)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox, retries=0)):
            await here.publish(self.topic, Message({}, b"bad"))
            await here.publish(self.topic, Message({}, b"good"), confirm=True)
        assert inbox.bodies == [b"bad", b"good"]

    # Waiting and leaving

    @promise()
    async def test_flush_waits_until_all_is_handled(self) -> None:
        inbox = Inbox(slow=0.05)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for _ in range(3):
                await here.publish(self.topic, Message({}, b""))
            assert await here.flush() == 0
            assert len(inbox.finished) == 3

    @promise()
    async def test_flush_returns_what_is_left_when_its_time_is_over(self) -> None:
        inbox, left = Inbox(hold=True), -1
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for _ in range(3):
                await here.publish(self.topic, Message({}, b""))
            try:
                for _ in range(5):  # a process that is held up just then is too late once
                    with anyio.move_on_after(0.5):
                        left = await here.flush()
                        break
            finally:
                inbox.release()
            assert left == 3

    @promise()
    async def test_stats_count_what_waits(self) -> None:
        inbox = Inbox(hold=True)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            assert here.stats().waiting == 0
            for _ in range(3):
                await here.publish(self.topic, Message({}, b""))
            assert here.stats().waiting == 3
            inbox.release()
            while here.stats().waiting:  # noqa: ASYNC110 - flush has a promise of its own
                await anyio.sleep(0.01)
            assert (here.stats().waiting, here.stats().dropped) == (0, 0)

    @promise()
    async def test_closing_waits_for_the_outbox(self) -> None:
        inbox = Inbox(slow=0.05)
        async with self.broker() as there, there.subscribe(self.to(inbox)):
            async with self.broker() as here:
                for _ in range(3):
                    await here.publish(self.topic, Message({}, b""))
            assert len(inbox.finished) == 3

    @promise()
    async def test_leaving_a_subscription_waits_for_its_handlers(self) -> None:
        inbox = Inbox(slow=0.2)
        async with self.broker() as here, self.broker() as there:
            async with there.subscribe(self.to(inbox)):
                await here.publish(self.topic, Message({}, b""))
                await inbox.got()
            assert len(inbox.finished) == 1

    @promise()
    async def test_who_has_left_is_published_to_no_more(self) -> None:
        stays, goes = Inbox(), Inbox()
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            async with there.subscribe(self.to(stays)):
                async with elsewhere.subscribe(self.to(goes)):
                    await here.publish(self.topic, Message({}, b"both"), confirm=True)
                await here.publish(self.topic, Message({}, b"one"))
                await stays.got(2)
        assert (stays.bodies, goes.bodies) == ([b"both", b"one"], [b"both"])

    @promise()
    async def test_a_closed_broker_raises_closed(self) -> None:
        async with self.broker() as here:
            await here.aclose()
            with pytest.raises(Closed):
                await here.publish(self.topic, Message({}, b""))

    @promise()
    async def test_closing_twice_is_fine(self) -> None:
        async with self.broker() as here:
            await here.aclose()
            await here.aclose()


class Inbox:
    """A handler that keeps what it gets; it may hold each message, take its time, or fail some times first."""

    def __init__(self, *, hold: bool = False, slow: float = 0.0, failures: int = 0) -> None:
        self.messages: list[tuple[str, Message]] = []
        self.finished: list[bytes] = []
        self._slow = slow
        self._failures = failures
        self._changed = anyio.Event()
        self._released = anyio.Event()
        if not hold:
            self.release()

    @property
    def bodies(self) -> list[bytes]:
        """The bodies that came, in order, those that failed too."""
        return [message.body for _, message in self.messages]

    async def handle(self, topic: str, message: Message) -> None:
        """Take a message."""
        self.messages.append((topic, message))
        self._changed.set()
        self._changed = anyio.Event()
        await self._released.wait()
        await anyio.sleep(self._slow)
        if self._failures:
            self._failures -= 1
            raise RuntimeError("it shall fail")
        self.finished.append(message.body)

    async def got(self, count: int = 1) -> tuple[str, Message]:
        """Wait until as many messages came, and return topic and message of the last of them."""
        while len(self.messages) < count:
            await self._changed.wait()
        return self.messages[count - 1]

    def release(self) -> None:
        """Let held messages, and all that follow, finish."""
        self._released.set()
