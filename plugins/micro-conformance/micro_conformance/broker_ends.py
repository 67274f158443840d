"""What the suite of brokers works with: brokers that meet, a topic of each test, a handler that keeps what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import anyio
import pytest

from micro_conformance.suite import Suite
from micro_core import Broker, Capability, Message, Subscription
from micro_core.testing import make_part

__all__ = ["BrokerSuite", "Inbox"]


class BrokerSuite(Suite):
    """Brokers of one test, and what they are told to do."""

    kind = "broker"
    capabilities: ClassVar[Mapping[str, str]] = {
        "queue": "members of a queue share the messages",
        "retries": "a message whose handler failed is handled again, and a dead letter in the end",
        "stored": "a message that is stored outlives its publisher, and nobody waits for its handlers",
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

    def needs(self, broker: Broker, *capabilities: Capability) -> None:
        """Leave a test out for a broker that does not offer what it is about."""
        for capability in capabilities:
            if capability not in broker.offers:
                pytest.skip(f"not claimed: {capability}, `offers` does not name it")

    def waits_until_handled(self, broker: Broker) -> None:
        """Leave a test out for a broker whose outbox is empty once its messages are stored."""
        if Capability.STORED in broker.offers:
            pytest.skip("not claimed: an outbox that waits for handlers, messages are stored")


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
