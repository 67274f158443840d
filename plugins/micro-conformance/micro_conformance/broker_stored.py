"""What brokers owe that store messages, beside the promises of all brokers."""

from __future__ import annotations

from typing import Any

import anyio

from micro_conformance.broker_ends import BrokerSuite, Inbox
from micro_conformance.suite import SOON, promise
from micro_core import Capability, Message

__all__ = ["StoredPromises"]

DURABLE: dict[str, Any] = {"queue": "q", "durable": True}


class StoredPromises(BrokerSuite):
    """The promises that go with `Capability.STORED`."""

    @promise(needs="stored")
    async def test_what_is_stored_arrives_though_its_publisher_has_gone(self) -> None:
        inbox = Inbox()
        async with self.broker() as there:
            self.needs(there, Capability.STORED, Capability.DURABLE)
            async with there.subscribe(self.to(Inbox(), **DURABLE)):
                pass
        async with self.broker() as here:
            await here.publish(self.topic, Message({}, b"one"), confirm="stored")
        async with self.broker() as there, there.subscribe(self.to(inbox, **DURABLE)):
            await inbox.got()
        assert inbox.bodies == [b"one"]

    @promise(needs="stored")
    async def test_a_message_for_nobody_is_taken(self) -> None:
        async with self.broker() as here:
            self.needs(here, Capability.STORED)
            await here.publish(self.topic, Message({}, b"one"), confirm="stored")
            assert here.stats().dropped == 0

    @promise(needs="stored")
    async def test_an_outbox_is_empty_once_its_messages_are_stored(self) -> None:
        inbox, left = Inbox(hold=True), -1
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            self.needs(here, Capability.STORED)
            await here.publish(self.topic, Message({}, b"one"), confirm="stored")
            await inbox.got()
            with anyio.move_on_after(SOON * 5):
                left = await here.flush()
            waiting = here.stats().waiting
            inbox.release()
        assert (left, waiting) == (0, 0)

    @promise(needs="stored")
    async def test_closing_waits_for_no_handler(self) -> None:
        inbox, closed = Inbox(hold=True), False
        async with self.broker() as there, there.subscribe(self.to(inbox)):
            self.needs(there, Capability.STORED)
            with anyio.move_on_after(SOON * 5):
                async with self.broker() as here:
                    await here.publish(self.topic, Message({}, b"one"), confirm="stored")
                    await inbox.got()
                closed = True
            inbox.release()
        assert closed

    @promise(needs="stored")
    async def test_what_a_cancelled_member_had_in_hand_goes_to_another(self) -> None:
        inbox, held = Inbox(), Inbox(hold=True)
        async with self.broker() as here, self.broker() as there, self.broker() as elsewhere:
            self.needs(here, Capability.STORED)
            scope, there_now = anyio.CancelScope(), anyio.Event()

            async def be_cancelled() -> None:
                with scope:
                    async with there.subscribe(self.to(held, queue="q")):
                        there_now.set()
                        await anyio.sleep_forever()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(be_cancelled)
                await there_now.wait()
                await here.publish(self.topic, Message({}, b"one"), confirm="stored")
                await held.got()
                async with elsewhere.subscribe(self.to(inbox, queue="q")):
                    scope.cancel()
                    await inbox.got()
        assert (held.finished, inbox.bodies) == ([], [b"one"])

    @promise(needs="stored")
    async def test_who_starts_at_the_beginning_gets_what_was_published_before_in_order(self) -> None:
        inbox, late = Inbox(), Inbox()
        async with self.broker() as here, self.broker() as there:
            self.needs(there, Capability.STORED, Capability.START)
            for body in (b"0", b"1", b"2"):
                await here.publish(self.topic, Message({}, body), confirm="stored")
            async with there.subscribe(self.to(inbox, start="all")), there.subscribe(self.to(late)):
                await inbox.got(3)
                await here.publish(self.topic, Message({}, b"3"), confirm="stored")
                await inbox.got(4)
                await late.got()
        assert (inbox.bodies, late.bodies) == ([b"0", b"1", b"2", b"3"], [b"3"])
