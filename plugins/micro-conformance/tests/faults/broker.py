"""One broken broker for each promise; the table's key is the promise that alone catches it."""

from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from micro_conformance import BrokerConformance
from micro_core import Closed, Message, PublishError, PublishStats
from micro_core.builtin.memory.broker import MemoryBroker


class Faulty(MemoryBroker):
    """A memory broker whose handlers are called through `on_handle`."""

    async def on_handle(self, handler, topic, message):
        await handler(topic, message)

    def subscribe(self, subscription):
        async def handler(topic, message):
            await self.on_handle(subscription.handler, topic, message)

        return super().subscribe(replace(self.on_subscription(subscription), handler=handler))

    def on_subscription(self, subscription):
        return subscription


class CanonicalHeaders(Faulty):
    async def on_handle(self, handler, topic, message):
        await handler(topic, Message({name.title(): value for name, value in message.headers.items()}, message.body))


class LargeBodiesAreCut(Faulty):
    async def on_handle(self, handler, topic, message):
        await handler(topic, Message(message.headers, message.body[:65536]))


class SecondMissesTheLast(Faulty):
    """Keeps the message "4" from whoever is second to get it."""

    async def on_handle(self, handler, topic, message):
        self.network.fours = getattr(self.network, "fours", 0) + (message.body == b"4")
        if self.network.fours < 2 or message.body != b"4":
            await handler(topic, message)


class EveryMemberGetsAll(Faulty):
    def on_subscription(self, subscription):
        members = getattr(self.network, "members", 0) + (subscription.queue == "q")
        self.network.members = members
        return replace(subscription, queue="") if members > 1 else subscription


class QueuesAreOne(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, queue="q" if subscription.queue else "")


class TopicsBeginAlike(Faulty):
    async def publish(self, topic, message, *, confirm=False):
        await super().publish(topic, message, confirm=confirm)
        if topic.endswith("-more"):
            await super().publish(topic.removesuffix("-more"), message, confirm=confirm)


class TwoChangePlaces(Faulty):
    async def on_handle(self, handler, topic, message):
        self.came = getattr(self, "came", 0) + 1
        if self.came > 100:
            message = Message(message.headers, {b"150": b"151", b"151": b"150"}.get(message.body, message.body))
        await handler(topic, message)


class OneMessageForAll(Faulty):
    async def publish(self, topic, message, *, confirm=False):
        self.network.shared = message
        await super().publish(topic, message, confirm=confirm)

    async def on_handle(self, handler, topic, message):
        shared = self.network.shared
        await handler(topic, shared if shared.body == message.body and b"Kept" in message.headers else message)


class BelievesThePublisher(Faulty):
    """Hands on the names that the publisher wrote."""

    async def publish(self, topic, message, *, confirm=False):
        self.network.written = message.peer
        await super().publish(topic, message, confirm=confirm)

    async def on_handle(self, handler, topic, message):
        await handler(topic, Message(message.headers, message.body, self.network.written))


class OthersNamesAtTheSecondAttempt(Faulty):
    came = 0

    async def on_handle(self, handler, topic, message):
        self.came += 1
        await handler(topic, Message(message.headers, message.body, ("other",) if self.came > 1 else ()))


class TwoAtATime(Faulty):
    """Handles two messages at a time for handlers that hold theirs."""

    def on_subscription(self, subscription):
        inbox = getattr(subscription.handler, "__self__", None)
        holding = inbox is not None and not inbox._released.is_set()
        return replace(subscription, concurrency=2) if holding and subscription.concurrency == 1 else subscription


class FourAtATime(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, concurrency=4) if subscription.concurrency == 3 else subscription


class NobodyIsFine(Faulty):
    async def publish(self, topic, message, *, confirm=False):
        if any(group.topic == topic for group in self.network.groups) or self._closed:
            await super().publish(topic, message, confirm=confirm)


class ShortOnesAreWaitedFor(Faulty):
    """Waits for the handlers of messages of three bytes."""

    async def publish(self, topic, message, *, confirm=False):
        await super().publish(topic, message, confirm=confirm)
        while len(message.body) == 3 and self._waiting:
            await self._settled.wait()


class ConfirmsWhenTaken(Faulty):
    """Confirms at once where a single subscriber wants the usual retries."""

    async def publish(self, topic, message, *, confirm=False):
        members = [member for group in self.network.groups for member in group.members if group.topic == topic]
        single = len(members) == 1 and members[0]._deliverer._subscription.retries == 3
        await super().publish(topic, message, confirm=confirm and not single)


class NamesNobody(Faulty):
    async def publish(self, topic, message, *, confirm=False):
        try:
            await super().publish(topic, message, confirm=confirm)
        except PublishError as error:
            raise PublishError(error.detail) from error


class EndlessOutbox(Faulty):
    def __init__(self, *, outbox=1000):
        super().__init__()


class RetriesOnceLess(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, retries=1) if subscription.retries == 2 else subscription


class RetriesOnceMore(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, retries=2) if subscription.retries == 1 else subscription


class ForgetsTheError(Faulty):
    def on_subscription(self, subscription):
        if subscription.dead_letter is None:
            return subscription

        async def bury(topic, message, error):
            await subscription.dead_letter(topic, message, Exception("unknown"))

        return replace(subscription, dead_letter=bury)


class StopsAtAFailure(Faulty):
    failed = False

    async def on_handle(self, handler, topic, message):
        if self.failed and message.body == b"good":
            raise RuntimeError("stopped")
        self.failed = message.body == b"bad"
        await handler(topic, message)


class FlushesNothing(Faulty):
    async def flush(self):
        return 0 if anyio.current_effective_deadline() > anyio.current_time() + 1 else await super().flush()

    async def aclose(self):
        while self._waiting and not self._closed:
            await self._settled.wait()
        await super().aclose()


class FlushSaysNothingIsLeft(Faulty):
    async def flush(self):
        await super().flush()
        return 0


class CountsNothing(Faulty):
    def stats(self):
        return PublishStats(waiting=0, dropped=0)


class ClosesAtOnce(Faulty):
    async def aclose(self):
        for letter in tuple(self._waiting):
            letter.group.forget(letter)
            self.settle(letter, None)
        await super().aclose()


class LeavesAtOnce(Faulty):
    """Cancels the handlers of a topic's only subscriber when it leaves."""

    @asynccontextmanager
    async def _receive(self, subscription):
        async with super()._receive(subscription):
            yield
            topic = subscription.topic
            members = [member for group in self.network.groups for member in group.members if group.topic == topic]
            for scope in members[0]._scopes if len(members) == 1 else ():
                scope.cancel()


class RemembersWhoLeft(Faulty):
    """Goes on handing messages to a subscriber that has left, once another stays."""

    async def on_handle(self, handler, topic, message):
        left = getattr(self.network, "left", [])
        for gone in left:
            await gone(topic, message)
        await handler(topic, message)

    def subscribe(self, subscription):
        return self.remembering(super().subscribe(subscription), subscription)

    @asynccontextmanager
    async def remembering(self, subscribing, subscription):
        async with subscribing:
            yield
        self.network.left = [*getattr(self.network, "left", []), subscription.handler]


class ClosedIsJustNobody(Faulty):
    async def publish(self, topic, message, *, confirm=False):
        try:
            await super().publish(topic, message, confirm=confirm)
        except Closed as error:
            raise PublishError("closed") from error


class ClosesOnce(Faulty):
    async def aclose(self):
        if self._closed and not self.leaving:
            raise RuntimeError("closed already")
        await super().aclose()

    leaving = False

    async def __aexit__(self, *error):
        self.leaving = True
        await super().__aexit__(*error)


class Suite(BrokerConformance):
    plugin = MemoryBroker
    small_outbox = {"outbox": 4}


FAULTS = {
    "test_topic_headers_and_body_arrive_as_they_were_published": CanonicalHeaders,
    "test_empty_binary_and_large_bodies_arrive": LargeBodiesAreCut,
    "test_every_subscriber_gets_every_message": SecondMissesTheLast,
    "test_one_member_of_a_queue_gets_each_message": EveryMemberGetsAll,
    "test_every_queue_and_who_has_none_get_a_message_each": QueuesAreOne,
    "test_other_topics_stay_away": TopicsBeginAlike,
    "test_messages_keep_their_order": TwoChangePlaces,
    "test_a_message_changed_by_one_subscriber_is_whole_for_the_others": OneMessageForAll,
    "test_a_message_has_the_names_that_its_publisher_was_verified_by_and_no_others": BelievesThePublisher,
    "test_a_message_that_is_handled_again_keeps_the_names_of_its_publisher": OthersNamesAtTheSecondAttempt,
    "test_one_message_is_handled_at_a_time_unless_more_are_asked_for": TwoAtATime,
    "test_as_many_as_asked_for_are_handled_at_a_time_and_no_more": FourAtATime,
    "test_publishing_to_nobody_is_an_error": NobodyIsFine,
    "test_publishing_does_not_wait_for_the_handler": ShortOnesAreWaitedFor,
    "test_confirming_waits_until_the_handler_has_returned": ConfirmsWhenTaken,
    "test_confirming_names_who_has_not_handled_it": NamesNobody,
    "test_publishing_waits_for_room_in_the_outbox": EndlessOutbox,
    "test_a_message_whose_handler_fails_is_handled_again": RetriesOnceLess,
    "test_a_message_is_retried_as_often_as_asked_for_and_no_more": RetriesOnceMore,
    "test_a_message_that_fails_every_time_is_a_dead_letter_and_confirmed": ForgetsTheError,
    "test_a_message_that_fails_stops_none_behind_it": StopsAtAFailure,
    "test_flush_waits_until_all_is_handled": FlushesNothing,
    "test_flush_returns_what_is_left_when_its_time_is_over": FlushSaysNothingIsLeft,
    "test_stats_count_what_waits": CountsNothing,
    "test_closing_waits_for_the_outbox": ClosesAtOnce,
    "test_leaving_a_subscription_waits_for_its_handlers": LeavesAtOnce,
    "test_who_has_left_is_published_to_no_more": RemembersWhoLeft,
    "test_a_closed_broker_raises_closed": ClosedIsJustNobody,
    "test_closing_twice_is_fine": ClosesOnce,
}
