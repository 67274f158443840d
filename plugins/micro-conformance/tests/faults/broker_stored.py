"""A broker that stores messages in its network, and one that breaks each promise of such brokers."""

import time
from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from micro_conformance import BrokerConformance, promises
from micro_core import Capability, Delivery, PublishError, PublishStats
from micro_core.builtin.memory.broker import MemoryBroker
from micro_core.builtin.memory.group import Letter


class Store:
    """Where messages lie once they are published: whoever published them may go."""

    def settle(self, letter, outcome):
        letter.outcome = outcome

    def later(self, letter, seconds):
        letter.group.put_back(letter)


class StoringMemory(MemoryBroker):
    offers = (MemoryBroker.offers - {Capability.HANDLED, Capability.KNOWN_SUBSCRIBERS}) | {
        Capability.STORED,
        Capability.START,
    }

    @property
    def kept(self):
        return self.network.__dict__.setdefault("kept", [])

    async def send(self, publication):
        self._check_open()
        self.kept.append(publication)
        for group in self.network.groups:
            if group.wants(publication.topic):
                self.put(group, publication)

    def put(self, group, publication):
        delivery = Delivery(id=str(len(self.kept)), time=time.time())
        group.put(Letter(Store(), group, publication.topic, publication.message, delivery))

    def _group(self, subscription):
        known = len(self.network.groups)
        group = super()._group(subscription)
        if subscription.start == "all" and len(self.network.groups) > known:
            for publication in self.kept:
                self.put(group, publication)
        return group


class ForgetsWhatThePublisherTakesAlong(StoringMemory):
    async def aclose(self):
        for group in self.network.groups if self.kept else ():
            group.drop_all()
        await super().aclose()


class WantsSomebody(StoringMemory):
    async def send(self, publication):
        if not self.network.groups and not publication.message.body.isdigit():
            raise PublishError("nobody is there")
        await super().send(publication)


class CountsWhatIsStored(StoringMemory):
    def stats(self):
        return PublishStats(waiting=len(self.kept), dropped=0)


class ClosesLate(StoringMemory):
    """Waits for whoever subscribes."""

    async def aclose(self):
        if self.kept and any(group.members for group in self.network.groups):
            await anyio.sleep(5)
        await super().aclose()


class AcknowledgesBefore(StoringMemory):
    """Forgets a message as soon as a member has it in hand."""

    @asynccontextmanager
    async def _receive(self, subscription):
        async with super()._receive(subscription):
            for group in self.network.groups:
                group.put_back = lambda letter: None
            yield


class StartsAtTheEnd(StoringMemory):
    def _group(self, subscription):
        return super()._group(replace(subscription, start="new"))


class Suite(BrokerConformance):
    plugin = StoringMemory


for name, capability in promises(BrokerConformance).items():
    if capability != "stored":
        setattr(Suite, name, None)


FAULTS = {
    "test_what_is_stored_arrives_though_its_publisher_has_gone": ForgetsWhatThePublisherTakesAlong,
    "test_a_message_for_nobody_is_taken": WantsSomebody,
    "test_an_outbox_is_empty_once_its_messages_are_stored": CountsWhatIsStored,
    "test_closing_waits_for_no_handler": ClosesLate,
    "test_what_a_cancelled_member_had_in_hand_goes_to_another": AcknowledgesBefore,
    "test_who_starts_at_the_beginning_gets_what_was_published_before_in_order": StartsAtTheEnd,
}
