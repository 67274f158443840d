"""What every broker owes: the promises of `micro_core.broker`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

import anyio
import pytest

from micro_conformance.broker_capabilities import CapabilityPromises
from micro_conformance.broker_delivery import DeliveryPromises
from micro_conformance.broker_ends import Inbox
from micro_conformance.broker_stored import StoredPromises
from micro_conformance.suite import SOON, promise
from micro_core import Capability, Closed, Message, PublishError, Subscription

__all__ = ["BrokerConformance", "Inbox"]


class BrokerConformance(DeliveryPromises, CapabilityPromises, StoredPromises):
    """Subclass it, and give ``plugin`` and ``options``. Topics begin with ``conformance-`` and a random text.

    What the broker names in ``offers`` is tested; what it does not name has to be refused.
    """

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
                    await here.publish(self.topic, Message({}, b"%d" % number))
                await one.got(5)
                await other.got(5)
        assert one.bodies == other.bodies == [b"0", b"1", b"2", b"3", b"4"]

    @promise(needs="queue")
    async def test_one_member_of_a_queue_gets_each_message(self) -> None:
        both, sent = Inbox(), [b"%d" % number for number in range(20)]
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            async with there.subscribe(self.to(both, queue="q")), elsewhere.subscribe(self.to(both, queue="q")):
                for body in sent:
                    await here.publish(self.topic, Message({}, body))
                await both.got(20)
                await anyio.sleep(SOON)
        assert sorted(both.bodies) == sorted(sent)

    @promise(needs="queue")
    async def test_every_queue_and_who_has_none_get_a_message_each(self) -> None:
        boxes = [Inbox(), Inbox(), Inbox()]
        async with self.broker() as here, AsyncExitStack() as stack:
            for inbox, queue in zip(boxes, ("q", "r", ""), strict=True):
                there = await stack.enter_async_context(self.broker())
                await stack.enter_async_context(there.subscribe(self.to(inbox, queue=queue)))
            await here.publish(self.topic, Message({}, b"one"))
            for inbox in boxes:
                await inbox.got()
            await anyio.sleep(SOON)
        assert [inbox.bodies for inbox in boxes] == [[b"one"]] * 3

    @promise()
    async def test_other_topics_stay_away(self) -> None:
        inbox, other = Inbox(), Inbox()
        async with self.broker() as here, self.broker() as there:
            more = Subscription(topic=f"{self.topic}-more", handler=other.handle)
            async with there.subscribe(self.to(inbox)), there.subscribe(more):
                await here.publish(f"{self.topic}-more", Message({}, b"other"))
                await other.got()
                await here.publish(self.topic, Message({}, b"ours"))
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
        both_came = anyio.Event()

        async def spoil(topic: str, message: Message) -> None:
            seen.append(dict(message.headers))
            message.headers.clear()
            if len(seen) == 2:
                both_came.set()

        async with self.broker() as here, self.broker() as there:
            one, other = self.to(Inbox(), handler=spoil), self.to(Inbox(), handler=spoil, queue="q")
            async with there.subscribe(one), there.subscribe(other):
                await here.publish(self.topic, Message({b"Kept": b"1"}, b""))
                await both_came.wait()
        assert [headers.get(b"Kept") for headers in seen] == [b"1", b"1"]

    @promise()
    async def test_a_message_has_the_names_that_its_publisher_was_verified_by_and_no_others(self) -> None:
        inbox = Inbox()
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            await here.publish(self.topic, Message({}, b"one", peer=("somebody", "else")))
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
            self.needs(here, Capability.KNOWN_SUBSCRIBERS)
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
            self.needs(here, Capability.HANDLED)
            await here.publish(self.topic, Message({}, b"one"), confirm="handled")
            assert done == [b"one"]

    @promise()
    async def test_confirming_names_who_has_not_handled_it(self) -> None:
        good, bad = Inbox(), Inbox(failures=1)
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            self.needs(here, Capability.HANDLED)
            async with there.subscribe(self.to(good)), elsewhere.subscribe(self.to(bad, retries=0)):
                with pytest.raises(PublishError) as raised:
                    await here.publish(self.topic, Message({}, b"one"), confirm="handled")
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
            self.waits_until_handled(there)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                await inbox.got()
                await anyio.sleep(0.2)
                assert len(published) < 50
                inbox.release()
            await inbox.got(100)

    # Backlogs

    @promise()
    async def test_messages_keep_their_order_in_a_backlog(self) -> None:
        inbox, sent = Inbox(hold=True), [b"%d" % number for number in range(100)]
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for body in sent:
                await here.publish(self.topic, Message({}, body))
            await inbox.got()
            inbox.release()
            await inbox.got(100)
        assert inbox.bodies == sent

    @promise(needs="queue")
    async def test_who_leaves_with_a_backlog_hands_it_on(self) -> None:
        leaves, both, sent = Inbox(hold=True), Inbox(), [b"%d" % number for number in range(20)]

        async def held(topic: str, message: Message) -> None:
            await leaves.handle(topic, message)
            await both.handle(topic, message)

        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere, AsyncExitStack() as stack:
            async with there.subscribe(self.to(leaves, handler=held, queue="q")):
                for body in sent:
                    await here.publish(self.topic, Message({}, body))
                await leaves.got()
                await stack.enter_async_context(elsewhere.subscribe(self.to(both, queue="q")))
                leaves.release()
            await both.got(20)
        assert sorted(both.bodies) == sorted(sent)

    # Waiting and leaving

    @promise()
    async def test_flush_waits_until_all_is_handled(self) -> None:
        inbox = Inbox(slow=0.05)
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            self.waits_until_handled(there)
            for _ in range(3):
                await here.publish(self.topic, Message({}, b""))
            assert await here.flush() == 0
            assert len(inbox.finished) == 3

    @promise()
    async def test_flush_returns_what_is_left_when_its_time_is_over(self) -> None:
        inbox, left = Inbox(hold=True), -1
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            self.waits_until_handled(there)
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
            self.waits_until_handled(there)
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
            self.waits_until_handled(there)
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
                    await here.publish(self.topic, Message({}, b"both"))
                    await stays.got()
                    await goes.got()
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
