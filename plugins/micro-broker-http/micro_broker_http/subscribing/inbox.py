"""The subscriber's side: what arrived for one subscription, handled in order and none twice."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import anyio
import anyio.lowlevel

from micro_broker_http.backoff import backoff
from micro_core import Message, Subscription

__all__ = ["Delivery", "Inbox", "ItemId", "Ticket"]

ItemId: TypeAlias = tuple[bytes, int]
"""Publisher and number (docs/protocol.md §7)."""

WINDOW = 32_768
log = logging.getLogger("micro.broker.http")


class Delivery:
    """One message on its way through the handler."""

    __slots__ = ("done", "given_up", "message", "tickets")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.done = False
        self.given_up = False
        """Whether its handler failed every time, and nobody took it as a dead letter."""
        self.tickets: list[Ticket] = []

    def finish(self) -> None:
        """Acknowledge the message to every request that waits for it."""
        self.done = True
        for ticket in self.tickets:
            ticket.wake()
        self.tickets.clear()


class Ticket:
    """A request's view of the messages that it brought, each of which lies in as many ``copies`` side by side."""

    def __init__(self, deliveries: Sequence[Delivery], *, copies: int = 1) -> None:
        self._deliveries = deliveries
        self._copies = copies
        self._first_open = 0
        self._abandoned = False
        self._changed = anyio.Event()
        for delivery in deliveries:
            if not delivery.done:
                delivery.tickets.append(self)

    def acknowledged(self) -> int:
        """Return how many messages, from the first on, are done."""
        while self._first_open < len(self._deliveries) and self._deliveries[self._first_open].done:
            self._first_open += 1
        return self._first_open // self._copies

    def given_up(self, start: int, end: int) -> list[int]:
        """Return which of these messages, counted from 0, were given up, be it in one copy."""
        copies, deliveries = self._copies, self._deliveries
        first, last = start * copies, end * copies
        return sorted({index // copies for index in range(first, last) if deliveries[index].given_up})

    @property
    def complete(self) -> bool:
        """Whether all messages are done."""
        return self.acknowledged() * self._copies == len(self._deliveries)

    @property
    def settled(self) -> bool:
        """Whether the request has nothing to wait for."""
        return self._abandoned or self.complete

    def abandon(self) -> None:
        """Note that nobody waits for the answer any more."""
        self._abandoned = True
        self.wake()

    def wake(self) -> None:
        """Note that something changed."""
        self._changed.set()

    async def changed(self) -> None:
        """Wait until something changed since the last time."""
        await self._changed.wait()
        self._changed = anyio.Event()


class Inbox:
    """What arrived for one subscription. `work` handles it, once for each unit of concurrency, until `leave`."""

    def __init__(
        self,
        subscription: Subscription,
        id: str,
        *,
        capacity: int = 16_384,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float],
    ) -> None:
        self.subscription = subscription
        self.id = id
        self.leaving = False
        """Whether nothing more is taken."""
        self.ended = False
        """Whether nothing more is acknowledged either."""
        self.dead = 0
        """Messages whose handler failed every time."""
        self._capacity = capacity
        self._sleep = sleep
        self._random = random
        self._running = 0
        self._waiting: deque[Delivery] = deque()
        self._known: OrderedDict[ItemId, Delivery] = OrderedDict()
        self._arrived = anyio.Event()
        self._left = anyio.Event()
        self._tickets: set[Ticket] = set()
        self._answered = anyio.Event()

    @property
    def full(self) -> bool:
        """Whether so much is waiting that publishers should try later."""
        return len(self._waiting) >= self._capacity

    @property
    def room(self) -> bool:
        """Whether more messages could be handled at a time than there are; never where they are handled one by one."""
        return 0 < self._running < self.subscription.concurrency and not self._waiting

    @property
    def load(self) -> int:
        """How many messages wait or are being handled."""
        return len(self._waiting) + self._running

    def knows(self, id: ItemId | None) -> bool:
        """Whether a message was taken in before."""
        return id in self._known

    def take(self, id: ItemId | None, message: Message) -> Delivery:
        """Take a message in, and return its delivery; a known id is not taken twice."""
        if id is not None and (known := self._known.get(id)):
            return known
        delivery = Delivery(message)
        self._waiting.append(delivery)
        self._arrived.set()
        if id is not None:
            self._known[id] = delivery
            if len(self._known) > WINDOW:
                self._known.popitem(last=False)
        return delivery

    def hold(self, ticket: Ticket) -> None:
        """Note that a request waits for messages that were taken in."""
        self._tickets.add(ticket)

    def release(self, ticket: Ticket) -> None:
        """Note that the request of a ticket was answered, or is gone."""
        self._tickets.discard(ticket)
        if not self._tickets:
            self._answered.set()

    async def work(self) -> None:
        """Handle messages one after the other until `leave`."""
        while not self.leaving:
            if self._waiting:
                self._running += 1
                try:
                    await self._handle(self._waiting.popleft())
                finally:
                    self._running -= 1
                continue
            if self._arrived.is_set():
                self._arrived = anyio.Event()
            await self._arrived.wait()

    async def _handle(self, delivery: Delivery) -> None:
        if self.room:
            for ticket in self._tickets:
                ticket.wake()
        await anyio.lowlevel.checkpoint()
        if await self._succeeds(delivery):
            delivery.finish()
            delivery.message = _NOTHING

    async def _succeeds(self, delivery: Delivery) -> bool:
        """Have a message handled, or buried where that fails every time; return whether one of both was done."""
        subscription, message, error = self.subscription, delivery.message, None
        for attempt in range(subscription.retries + 1):
            if attempt and not await self._pause(attempt):
                return False
            try:
                await subscription.handler(subscription.topic, message)
            except Exception as caught:
                error = caught
                log.warning(
                    "handler of topic %r failed, attempt %d of %d: %r",
                    subscription.topic, attempt + 1, subscription.retries + 1, error,
                )  # fmt: skip
            else:
                return True
        assert error is not None
        return await self._bury(delivery, error)

    async def _bury(self, delivery: Delivery, error: Exception) -> bool:
        """Give a message to the dead-letter hook until that takes it: until then it is not acknowledged."""
        topic, hook = self.subscription.topic, self.subscription.dead_letter
        self.dead += 1
        if hook is None:
            delivery.given_up = True
            log.error("message of topic %r given up, its handler failed every time", topic, exc_info=error)
            return True
        failures = 0
        while True:
            try:
                await hook(topic, delivery.message, error)
            except Exception:
                failures += 1
                log.exception("dead-letter hook of topic %r failed, it is tried again", topic)
            else:
                return True
            if not await self._pause(failures):
                return False

    async def _pause(self, failures: int) -> bool:
        """Wait before the next attempt; return whether there may be one."""
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                await self._sleep(backoff(failures, self._random))
                group.cancel_scope.cancel()

            group.start_soon(wait)
            await self._left.wait()
            group.cancel_scope.cancel()
        return not self.leaving

    def leave(self) -> None:
        """Start nothing more: handlers that run may finish, what waits stays unacknowledged."""
        self.leaving = True
        self._left.set()
        self._arrived.set()
        self._waiting.clear()

    async def end_answers(self) -> None:
        """End the answers that still wait, after the workers have ended, and return when all are written."""
        self.ended = True
        for ticket in self._tickets:
            ticket.wake()
        while self._tickets:
            self._answered = anyio.Event()
            await self._answered.wait()

    def __repr__(self) -> str:
        state = "leaving" if self.leaving else f"{len(self._waiting)} waiting"
        return f"<Inbox {self.id!r}, {state}>"


_NOTHING = Message({})
