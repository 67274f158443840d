"""The subscribers of the memory broker: who shares a topic's messages, and who is at work on one."""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

import anyio

from micro_core.broker import Subscription
from micro_core.message import Message

__all__ = ["Delivery", "Group", "Member"]

log = logging.getLogger("micro.broker.memory")


class Publisher(Protocol):
    """Whose outbox a message lies in."""

    def settle(self, delivery: Delivery, *, handled: bool, kept: bool = True) -> None:
        """Take a message out of the outbox: it was handled, or given up."""


class Delivery:
    """One message on its way to one group."""

    def __init__(self, publisher: Publisher, group: Group, topic: str, message: Message) -> None:
        self.publisher = publisher
        self.group = group
        self.topic = topic
        self.headers = dict(message.headers)
        self.body = message.body
        self.handled = False
        self.done = anyio.Event()


class Group:
    """The members of a queue, or one subscriber without one, and what waits for them, oldest first."""

    def __init__(self, topic: str, queue: str) -> None:
        self.queue = queue
        self.name = f"queue {queue!r} of {topic!r}" if queue else f"a subscriber of {topic!r}"
        self.members: set[Member] = set()
        self._messages: deque[Delivery] = deque()
        self._idle: deque[anyio.Event] = deque()

    def put(self, delivery: Delivery) -> None:
        """Add a message and wake who waits longest for one."""
        self._messages.append(delivery)
        self._wake_one()

    def put_back(self, delivery: Delivery) -> None:
        """Return a message that a member took and did not finish."""
        self._messages.appendleft(delivery)
        self._wake_one()

    async def take(self, member: Member) -> Delivery | None:
        """Return the next message, or None when ``member`` has left."""
        while not member.leaving:
            if self._messages:
                return self._messages.popleft()
            woken = anyio.Event()
            self._idle.append(woken)
            try:
                await woken.wait()
            finally:
                if woken in self._idle:
                    self._idle.remove(woken)
        self._wake_one()
        return None

    def wake_all(self) -> None:
        """Have every member look whether it is still one."""
        while self._idle:
            self._wake_one()

    def _wake_one(self) -> None:
        if self._idle:
            self._idle.popleft().set()

    def forget(self, delivery: Delivery) -> None:
        """Remove a message that its publisher gave up."""
        if delivery in self._messages:
            self._messages.remove(delivery)

    def drop_all(self) -> None:
        """Give up what waits, since nobody is left to take it."""
        while self._messages:
            delivery = self._messages.popleft()
            delivery.publisher.settle(delivery, handled=False, kept=False)


class Member:
    """One subscription at work."""

    def __init__(self, subscription: Subscription, group: Group, backoff: float) -> None:
        self.group = group
        self.leaving = False
        self._subscription = subscription
        self._backoff = backoff
        self._workers = subscription.concurrency
        self._scopes: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()
        group.members.add(self)

    async def work(self) -> None:
        """Handle messages, one at a time, until this member leaves."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                while delivery := await self.group.take(self):
                    await self._deliver(delivery)
            finally:
                self._scopes.discard(scope)
                self._workers -= 1
                if not self._workers:
                    self._idle.set()

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            handled = await self._handle(delivery)
        except anyio.get_cancelled_exc_class():
            self.group.put_back(delivery)
            raise
        delivery.publisher.settle(delivery, handled=handled)

    async def _handle(self, delivery: Delivery) -> bool:
        """Return whether the message was handled, or taken as a dead letter, after as many attempts as allowed."""
        wanted = self._subscription
        for attempt in range(wanted.retries + 1):
            try:
                await wanted.handler(delivery.topic, Message(dict(delivery.headers), delivery.body))
            except Exception as error:
                last = error
                log.info("attempt %d at a message on %r failed: %r", attempt + 1, delivery.topic, error)
                if attempt < wanted.retries:
                    await anyio.sleep(self._backoff * 2**attempt)
            else:
                return True
        if wanted.dead_letter is None:
            log.error("a message on %r failed every time", delivery.topic, exc_info=last)
            return False
        try:
            await wanted.dead_letter(delivery.topic, Message(dict(delivery.headers), delivery.body), last)
        except Exception:
            log.exception("the dead-letter hook failed for a message on %r", delivery.topic)
            return False
        return True

    async def leave(self) -> None:
        """Take no more, and wait for the handlers that run; cancelling that cancels them: their messages go back."""
        self.leaving = True
        self.group.members.discard(self)
        self.group.wake_all()
        try:
            await self._idle.wait()
        finally:
            for scope in tuple(self._scopes):
                scope.cancel()
