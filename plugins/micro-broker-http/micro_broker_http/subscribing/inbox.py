"""The subscriber's side: what arrived for one subscription, handled in order and none twice."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TypeAlias

import anyio
import anyio.lowlevel

from micro_core import Message, Subscription
from micro_core.delivery import Again, Deliverer, Outcome, Settled

__all__ = ["Arrival", "Inbox", "ItemId", "Ticket"]

ItemId: TypeAlias = tuple[bytes, int]
"""Publisher and number (docs/protocol.md §7)."""

WINDOW = 32_768


class Arrival:
    """One message on its way through the handler."""

    __slots__ = ("again", "done", "given_up", "id", "message", "tickets")

    def __init__(self, id: ItemId | None, message: Message) -> None:
        self.id = id
        self.message = message
        self.done = False
        self.given_up = False
        """Whether its handler failed every time, and nobody took it as a dead letter."""
        self.again: Again | None = None
        """When it is to come again, where it was not handled."""
        self.tickets: list[Ticket] = []

    def finish(self, outcome: Outcome) -> None:
        """Acknowledge the message, or have it sent again, to every request that waits for it."""
        self.again = outcome if isinstance(outcome, Again) else None
        self.given_up = outcome is Settled.GIVEN_UP
        self.done = True
        self.message = _NOTHING
        for ticket in self.tickets:
            ticket.wake()
        self.tickets.clear()


class Ticket:
    """A request's view of the messages that it brought, each of which lies in as many ``copies`` side by side."""

    def __init__(self, arrivals: Sequence[Arrival], *, copies: int = 1) -> None:
        self._arrivals = arrivals
        self._copies = copies
        self._first_open = 0
        self._abandoned = False
        self._changed = anyio.Event()
        for arrival in arrivals:
            if not arrival.done:
                arrival.tickets.append(self)

    def acknowledged(self) -> int:
        """Return how many messages, from the first on, are done."""
        while self._first_open < len(self._arrivals) and self._arrivals[self._first_open].done:
            self._first_open += 1
        return self._first_open // self._copies

    def given_up(self, start: int, end: int) -> list[int]:
        """Return which of these messages, counted from 0, were given up, be it in one copy."""
        copies, arrivals = self._copies, self._arrivals
        first, last = start * copies, end * copies
        return sorted({index // copies for index in range(first, last) if arrivals[index].given_up})

    def again(self, start: int, end: int) -> dict[int, Again]:
        """Return which of these messages are to be sent again, be it for one copy."""
        copies, arrivals = self._copies, self._arrivals
        first, last = start * copies, end * copies
        return {index // copies: again for index in range(first, last) if (again := arrivals[index].again)}

    @property
    def complete(self) -> bool:
        """Whether all messages are done."""
        return self.acknowledged() * self._copies == len(self._arrivals)

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

    def __init__(self, subscription: Subscription, id: str, deliverer: Deliverer, *, capacity: int = 16_384) -> None:
        self.subscription = subscription
        self.id = id
        self.leaving = False
        """Whether nothing more is taken."""
        self.ended = False
        """Whether nothing more is acknowledged either."""
        self._deliverer = deliverer
        self._capacity = capacity
        self._running = 0
        self._waiting: deque[Arrival] = deque()
        self._known: OrderedDict[ItemId, Arrival] = OrderedDict()
        self._arrived = anyio.Event()
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

    def take(self, id: ItemId | None, message: Message) -> Arrival:
        """Take a message in, and return its arrival; a known id is not taken twice."""
        if id is not None and (known := self._known.get(id)):
            return known
        arrival = Arrival(id, message)
        self._waiting.append(arrival)
        self._arrived.set()
        if id is not None:
            self._known[id] = arrival
            if len(self._known) > WINDOW:
                self._known.popitem(last=False)
        return arrival

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

    async def _handle(self, arrival: Arrival) -> None:
        if self.room:
            for ticket in self._tickets:
                ticket.wake()
        await anyio.lowlevel.checkpoint()
        outcome = await self._deliverer.deliver(self.subscription.topic, arrival.message)
        if isinstance(outcome, Again):
            if self.leaving:
                return  # not acknowledged: it goes to whoever is left
            if arrival.id is not None:
                self._known.pop(arrival.id, None)
        arrival.finish(outcome)

    def leave(self) -> None:
        """Start nothing more: handlers that run may finish, what waits stays unacknowledged."""
        self.leaving = True
        self._deliverer.leave()
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
