"""The subscribers of the memory broker: who shares a topic's messages, and who is at work on one."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import anyio

from micro_core.broker import Subscription, fits
from micro_core.delivery import Again, Deliverer, Settled
from micro_core.message import Delivery, Message

__all__ = ["Group", "Letter", "Member"]


class Sender(Protocol):
    """The publisher whose outbox holds a message."""

    def settle(self, letter: Letter, outcome: Settled | None) -> None:
        """Take a message out of the outbox: it was settled, or (None) dropped because nobody is left."""

    def later(self, letter: Letter, seconds: float) -> None:
        """Put a message back into its group after a time."""


class Letter:
    """One message on its way to one group."""

    def __init__(self, sender: Sender, group: Group, topic: str, message: Message, delivery: Delivery) -> None:
        self.sender = sender
        self.group = group
        self.topic = topic
        self.headers = dict(message.headers)
        self.body = message.body
        self.delivery = delivery
        self.outcome: Settled | None = None
        self.done = anyio.Event()

    def message(self) -> Message:
        """Return the message as its subscriber gets it."""
        return Message(self.headers, self.body, (), self.delivery)


class Group:
    """The members of a queue, or one subscriber without one, and what waits for them, oldest first."""

    def __init__(self, subscription: Subscription) -> None:
        self.topic = subscription.topic
        self.key = known_by(subscription)
        self.durable = subscription.durable
        """Whether messages are kept while there are no members."""
        queue = subscription.queue
        self.name = f"queue {queue!r} of {self.topic!r}" if queue else f"a subscriber of {self.topic!r}"
        self.members: set[Member] = set()
        self._messages: deque[Letter] = deque()
        self._idle: deque[anyio.Event] = deque()

    def wants(self, topic: str) -> bool:
        """Return whether a message of a topic is for this group."""
        return fits(topic, self.topic)

    def put(self, letter: Letter) -> None:
        """Add a message and wake who waits longest for one."""
        self._messages.append(letter)
        self._wake_one()

    def put_back(self, letter: Letter) -> None:
        """Return a message that a member took and did not finish."""
        self._messages.appendleft(letter)
        self._wake_one()

    async def take(self, member: Member) -> Letter | None:
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

    def forget(self, letter: Letter) -> None:
        """Remove a message that its publisher gave up."""
        if letter in self._messages:
            self._messages.remove(letter)

    def drop_all(self) -> None:
        """Give up what waits, since nobody is left to take it."""
        while self._messages:
            letter = self._messages.popleft()
            letter.sender.settle(letter, None)


def known_by(subscription: Subscription) -> tuple[str, ...]:
    """Return what members of one group have in common; nothing for a subscriber that shares with nobody."""
    if subscription.queue:
        return ("queue", subscription.queue)
    return ("name", subscription.service, subscription.name) if subscription.durable else ()


class Member:
    """One subscription at work."""

    def __init__(self, subscription: Subscription, group: Group, deliverer: Deliverer) -> None:
        self.group = group
        self.leaving = False
        self._deliverer = deliverer
        self._workers = subscription.concurrency
        self._scopes: set[anyio.CancelScope] = set()
        self._idle = anyio.Event()
        group.members.add(self)

    async def work(self) -> None:
        """Handle messages, one at a time, until this member leaves."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                while letter := await self.group.take(self):
                    await self._deliver(letter)
            finally:
                self._scopes.discard(scope)
                self._workers -= 1
                if not self._workers:
                    self._idle.set()

    async def _deliver(self, letter: Letter) -> None:
        try:
            outcome = await self._deliverer.deliver(letter.topic, letter.message())
        except anyio.get_cancelled_exc_class():
            self.group.put_back(letter)
            raise
        if isinstance(outcome, Again):
            letter.delivery = Delivery(
                id=letter.delivery.id, time=letter.delivery.time, attempt=outcome.attempt, redelivered=True
            )
            letter.sender.later(letter, outcome.after)
        else:
            letter.sender.settle(letter, outcome)

    async def leave(self) -> None:
        """Take no more, and wait for the handlers that run; cancelling that cancels them: their messages go back."""
        self.leaving = True
        self.group.members.discard(self)
        self.group.wake_all()
        self._deliverer.leave()
        try:
            await self._idle.wait()
        finally:
            for scope in tuple(self._scopes):
                scope.cancel()
