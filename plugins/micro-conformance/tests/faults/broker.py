"""One broken broker for each promise; the table's key is the promise that alone catches it."""

from contextlib import asynccontextmanager, suppress
from contextvars import copy_context

import anyio
from msgspec.structs import replace

from micro_conformance import BrokerConformance
from micro_core import Closed, Message, Publication, PublishError, PublishStats, Reject, Requeue
from micro_core.builtin.memory.broker import MemoryBroker
from micro_core.delivery import Settled


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
        message.headers = {name.title(): value for name, value in message.headers.items()}
        await handler(topic, message)


class LargeBodiesAreCut(Faulty):
    async def on_handle(self, handler, topic, message):
        message.body = message.body[:65536]
        await handler(topic, message)


class SecondMissesTheLast(Faulty):
    """Keeps the message "4" from whoever is second to get it."""

    async def on_handle(self, handler, topic, message):
        self.network.fours = getattr(self.network, "fours", 0) + (message.body == b"4")
        if self.network.fours < 2 or message.body != b"4":
            await handler(topic, message)


class EveryMemberGetsAll(Faulty):
    def on_subscription(self, subscription):
        """Have two members with one handler get all."""
        owner = getattr(subscription.handler, "__self__", subscription.handler)
        again = owner is getattr(self.network, "owner", None) and subscription.queue == "q"
        self.network.owner = owner
        return replace(subscription, queue="") if again else subscription


class QueuesAreOne(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, queue="q" if subscription.queue else "")


class TopicsBeginAlike(Faulty):
    async def publish(self, topic, message, **fields):
        await super().publish(topic, message, **fields)
        if topic.endswith("-more"):
            await super().publish(topic.removesuffix("-more"), message, **fields)


class TwoChangePlaces(Faulty):
    async def on_handle(self, handler, topic, message):
        self.came = getattr(self, "came", 0) + 1
        if self.came > 100:
            message = Message(message.headers, {b"150": b"151", b"151": b"150"}.get(message.body, message.body))
        await handler(topic, message)


class OneMessageForAll(Faulty):
    async def publish(self, topic, message, **fields):
        self.network.shared = message
        await super().publish(topic, message, **fields)

    async def on_handle(self, handler, topic, message):
        shared = self.network.shared
        await handler(topic, shared if shared.body == message.body and b"Kept" in message.headers else message)


class BelievesThePublisher(Faulty):
    """Hands on the names that the publisher wrote."""

    async def publish(self, topic, message, **fields):
        self.network.written = message.peer
        await super().publish(topic, message, **fields)

    async def on_handle(self, handler, topic, message):
        await handler(topic, Message(message.headers, message.body, self.network.written, message.delivery))


class OthersNamesAtTheSecondAttempt(Faulty):
    came = 0

    async def on_handle(self, handler, topic, message):
        self.came += 1
        await handler(
            topic, Message(message.headers, message.body, ("other",) if self.came > 1 else (), message.delivery)
        )


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
    async def send(self, publication):
        if self.network.groups or self._closed:
            await super().send(publication)


class ShortOnesAreWaitedFor(Faulty):
    """Waits for the handlers of messages of three bytes."""

    async def publish(self, topic, message, **fields):
        await super().publish(topic, message, **fields)
        while len(message.body) == 3 and self._waiting:
            await self._settled.wait()


class ConfirmsWhenTaken(Faulty):
    """Confirms at once where a single subscriber wants the usual retries."""

    async def publish(self, topic, message, **fields):
        members = [member for group in self.network.groups for member in group.members if group.topic == topic]
        single = len(members) == 1 and members[0]._deliverer._subscription.retries == 3
        await super().publish(topic, message, **{**fields, **({"confirm": "kept"} if single else {})})


class NamesNobody(Faulty):
    async def publish(self, topic, message, **fields):
        try:
            await super().publish(topic, message, **fields)
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
        if not callable(subscription.dead_letter):
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
        subscribing = super().subscribe(subscription)
        return subscribing if subscription.queue else self.remembering(subscribing, subscription)

    @asynccontextmanager
    async def remembering(self, subscribing, subscription):
        async with subscribing:
            yield
        self.network.left = [*getattr(self.network, "left", []), subscription.handler]


class ClosedIsJustNobody(Faulty):
    async def publish(self, topic, message, **fields):
        try:
            await super().publish(topic, message, **fields)
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


class ShufflesABacklog(Faulty):
    shuffled = False

    async def on_handle(self, handler, topic, message):
        self.shuffled |= len(self.network.groups[0]._messages) > 90
        if self.shuffled:
            message = Message(message.headers, {b"50": b"51", b"51": b"50"}.get(message.body, message.body))
        await handler(topic, message)


class TakesItsBacklogAlong(Faulty):
    @asynccontextmanager
    async def _receive(self, subscription):
        async with super()._receive(subscription):
            yield
            for group in self.network.groups:
                if len(group.members) > 1:
                    group.drop_all()


class HurriesToTheNextAttempt(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, backoff=0.0) if isinstance(subscription.backoff, tuple) else subscription


class PoisonSpreads(Faulty):
    """Loses the message behind one that failed."""

    poisoned = False

    async def on_handle(self, handler, topic, message):
        if self.poisoned and message.body == b"good 5":
            return
        try:
            await handler(topic, message)
        except RuntimeError:
            self.poisoned = message.body == b"bad"
            raise


class BuriesOnlyOnce(Faulty):
    def on_subscription(self, subscription):
        if not callable(subscription.dead_letter):
            return subscription

        async def bury(*letter):
            with suppress(RuntimeError):
                await subscription.dead_letter(*letter)

        return replace(subscription, dead_letter=bury)


class NamelessGraves(Faulty):
    async def publish(self, topic, message, **fields):
        headers = {name: value for name, value in message.headers.items() if not name.startswith(b"Micro-Dead")}
        await super().publish(topic, Message(headers, message.body), **fields)


class DeadAreLost(Faulty):
    def settle(self, letter, outcome):
        super().settle(letter, Settled.GIVEN_UP if outcome is Settled.BURIED else outcome)


class TriesTheRejectedAgain(Faulty):
    async def on_handle(self, handler, topic, message):
        try:
            await handler(topic, message)
        except Reject as error:
            if message.delivery.attempt == 1:
                raise RuntimeError("again") from error
            raise


class ComesAgainAtOnce(Faulty):
    async def on_handle(self, handler, topic, message):
        try:
            await handler(topic, message)
        except Requeue as error:
            raise Requeue(after=0) from error


class WantedAgainIsHandledInTheEnd(Faulty):
    async def on_handle(self, handler, topic, message):
        try:
            await handler(topic, message)
        except Requeue:
            if message.delivery.attempt < 3:
                raise


class EveryAttemptIsTheFirst(Faulty):
    async def on_handle(self, handler, topic, message):
        message.delivery = replace(message.delivery, attempt=1, redelivered=False)
        await handler(topic, message)


class HandlesInThePublishersContext(Faulty):
    async def send(self, publication):
        self.network.context = copy_context()
        await super().send(publication)

    async def on_handle(self, handler, topic, message):
        for variable, value in self.network.context.items():
            if variable.name == "request":
                variable.set(value)
        await handler(topic, message)


class OffersEverything(Faulty):
    def _check(self, capability):
        pass


class TakesAnyOption(Faulty):
    def _check_options(self, given, known, where):
        pass


class TakesAnyHeader(Faulty):
    def check(self, wanted):
        if not isinstance(wanted, Publication) or wanted.message.body != b"odd":
            super().check(wanted)


class PatternsAreBeginnings(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, topic=subscription.topic.replace(".*.c", ".>"))


class ForgetsDurableGroups(Faulty):
    def on_subscription(self, subscription):
        return replace(subscription, durable=False) if subscription.queue else subscription


class ForgetsDurableSubscribers(Faulty):
    def on_subscription(self, subscription):
        return subscription if subscription.queue else replace(subscription, durable=False)


class DelaysNothing(Faulty):
    async def send(self, publication):
        await super().send(replace(publication, delay=0.0))


class Suite(BrokerConformance):
    plugin = MemoryBroker
    missing = {"stored": "see broker_stored.py"}
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
    "test_a_message_that_fails_every_time_is_a_dead_letter": ForgetsTheError,
    "test_messages_keep_their_order_in_a_backlog": ShufflesABacklog,
    "test_who_leaves_with_a_backlog_hands_it_on": TakesItsBacklogAlong,
    "test_the_pauses_between_attempts_are_those_asked_for": HurriesToTheNextAttempt,
    "test_a_poison_message_takes_no_neighbour_along": PoisonSpreads,
    "test_a_dead_letter_hook_that_raises_is_called_again": BuriesOnlyOnce,
    "test_dead_letters_go_to_a_topic_where_one_is_named": NamelessGraves,
    "test_a_dead_letter_counts_as_handled": DeadAreLost,
    "test_a_message_that_is_rejected_is_a_dead_letter_at_once": TriesTheRejectedAgain,
    "test_a_message_that_its_handler_wants_again_comes_when_asked_for_and_holds_up_nobody": ComesAgainAtOnce,
    "test_a_message_that_is_wanted_again_for_ever_is_a_dead_letter_in_the_end": WantedAgainIsHandledInTheEnd,
    "test_a_message_tells_its_id_its_attempt_and_whether_it_came_before": EveryAttemptIsTheFirst,
    "test_a_handler_sees_nothing_of_the_context_of_whoever_publishes": HandlesInThePublishersContext,
    "test_what_is_not_offered_is_refused": OffersEverything,
    "test_options_that_there_are_not_are_refused": TakesAnyOption,
    "test_a_topic_or_header_that_no_broker_carries_is_refused": TakesAnyHeader,
    "test_a_pattern_gets_the_topics_that_fit_it_and_no_others": PatternsAreBeginnings,
    "test_a_durable_group_without_members_keeps_what_is_published": ForgetsDurableGroups,
    "test_a_durable_subscriber_gets_what_came_while_it_was_away": ForgetsDurableSubscribers,
    "test_a_message_that_is_delayed_comes_later_and_holds_up_nobody": DelaysNothing,
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
