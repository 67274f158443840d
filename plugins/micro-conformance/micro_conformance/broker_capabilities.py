"""What brokers owe where they offer more than the contract asks for, and where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import anyio
import pytest

from micro_conformance.broker_ends import BrokerSuite, Inbox
from micro_conformance.suite import promise
from micro_core import Capability, ConfigError, Message, PublishError

__all__ = ["CapabilityPromises"]

PUBLISHING: Final[Mapping[Capability, Mapping[str, Any]]] = {
    Capability.HANDLED: {"confirm": "handled"},
    Capability.STORED: {"confirm": "stored"},
    Capability.KEY: {"key": "one"},
    Capability.DELAY: {"delay": 0.1},
}
SUBSCRIBING: Final[Mapping[Capability, Mapping[str, Any]]] = {
    Capability.DURABLE: {"durable": True, "queue": "q"},
    Capability.START: {"start": "all"},
    Capability.ACK_WAIT: {"ack_wait": 10.0},
}


class CapabilityPromises(BrokerSuite):
    """The promises that go with `Broker.offers`."""

    @promise()
    async def test_what_is_not_offered_is_refused(self) -> None:
        async with self.broker() as broker:
            for capability, fields in PUBLISHING.items():
                if capability not in broker.offers:
                    with pytest.raises(ConfigError, match=broker.name):
                        await broker.publish(self.topic, Message({}, b""), **fields)
            for capability, fields in SUBSCRIBING.items():
                if capability not in broker.offers:
                    with pytest.raises(ConfigError, match=broker.name):
                        broker.subscribe(self.to(Inbox(), **fields))
            if Capability.PATTERNS not in broker.offers:
                with pytest.raises(ConfigError, match=broker.name):
                    broker.subscribe(self.to(Inbox(), topic=f"{self.topic}.*"))

    @promise()
    async def test_options_that_there_are_not_are_refused(self) -> None:
        async with self.broker() as broker:
            with pytest.raises(ConfigError, match="unheard"):
                broker.subscribe(self.to(Inbox(), options={"unheard": 1}))
            with pytest.raises(ConfigError, match="unheard"):
                await broker.publish(self.topic, Message({}, b""), options={"unheard": 1})

    @promise()
    async def test_a_topic_or_header_that_no_broker_carries_is_refused(self) -> None:
        inbox = Inbox()
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            for topic in ("", "a b", "a\nb", ".a", "a..b", f"{self.topic}.*"):
                with pytest.raises(PublishError):
                    await here.publish(topic, Message({}, b""))
            for headers in ({b"a b": b""}, {b"A": b"1\r\nB: 2"}, {b"": b""}):
                with pytest.raises(PublishError):
                    await here.publish(self.topic, Message(headers, b"odd"))
            await here.publish(self.topic, Message({}, b"plain"))
            await inbox.got()
        assert inbox.bodies == [b"plain"]

    @promise()
    async def test_a_pattern_gets_the_topics_that_fit_it_and_no_others(self) -> None:
        part, rest, last = Inbox(), Inbox(), Inbox()
        async with self.broker() as here, self.broker() as there:
            self.needs(there, Capability.PATTERNS)
            async with (
                there.subscribe(self.to(part, topic=f"{self.topic}.*.c")),
                there.subscribe(self.to(rest, topic=f"{self.topic}.>")),
                there.subscribe(self.to(last, topic=f"{self.topic}.last")),
            ):
                for topic in (f"{self.topic}.a", f"{self.topic}.a.c", f"{self.topic}.a.b.c", f"{self.topic}.last"):
                    await here.publish(topic, Message({}, topic.removeprefix(self.topic).encode()))
                await last.got()
                await rest.got(4)
        assert part.bodies == [b".a.c"]
        assert sorted(rest.bodies) == [b".a", b".a.b.c", b".a.c", b".last"]
        assert {topic for topic, _ in part.messages} == {f"{self.topic}.a.c"}

    @promise()
    async def test_a_durable_group_without_members_keeps_what_is_published(self) -> None:
        inbox, wanted = Inbox(), {"queue": "q", "durable": True}
        async with self.broker() as here, self.broker() as there:
            self.needs(there, Capability.DURABLE)
            async with there.subscribe(self.to(Inbox(), **wanted)):
                pass
            for body in (b"0", b"1", b"2"):
                await here.publish(self.topic, Message({}, body))
            async with self.broker() as later, later.subscribe(self.to(inbox, **wanted)):
                await inbox.got(3)
        assert inbox.bodies == [b"0", b"1", b"2"]

    @promise()
    async def test_a_durable_subscriber_gets_what_came_while_it_was_away(self) -> None:
        inbox, wanted = Inbox(), {"service": "shop", "name": "ship", "durable": True}
        async with self.broker() as here, self.broker() as there:
            self.needs(there, Capability.DURABLE)
            async with there.subscribe(self.to(Inbox(), **wanted)):
                pass
            await here.publish(self.topic, Message({}, b"meanwhile"))
            async with there.subscribe(self.to(inbox, **wanted)):
                await inbox.got()
        assert inbox.bodies == [b"meanwhile"]

    @promise()
    async def test_a_message_that_is_delayed_comes_later_and_holds_up_nobody(self) -> None:
        inbox = Inbox()
        async with self.broker() as here, self.broker() as there, there.subscribe(self.to(inbox)):
            self.needs(here, Capability.DELAY)
            began = anyio.current_time()
            await here.publish(self.topic, Message({}, b"later"), delay=0.4)
            await here.publish(self.topic, Message({}, b"now"))
            await inbox.got(2)
            took = anyio.current_time() - began
        assert inbox.bodies == [b"now", b"later"]
        assert took > 0.35
