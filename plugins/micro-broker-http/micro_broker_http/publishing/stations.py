"""What is kept for whom, and what becomes of it when somebody goes: the outboxes of a topic, and who empties them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import anyio

from micro_broker_http.publishing.courier import Courier
from micro_broker_http.publishing.outbox import Outbox
from micro_broker_http.wire.naming import Subscriber

__all__ = ["Route", "Station"]

log = logging.getLogger("micro.broker.http")


class Office(Protocol):
    """Who furnishes stations."""

    def new_outbox(self, subscriber: Subscriber) -> Outbox:
        """Return an empty outbox for a subscriber, or for its queue group."""

    def employ(self, outbox: Outbox, subscriber: Subscriber) -> Courier:
        """Return a courier that is at work."""

    def expire(self, expired: Callable[[], None]) -> anyio.CancelScope:
        """Call a function after the time that messages are kept for those who went; cancel the scope to prevent it."""


class Route:
    """The outboxes of one topic."""

    def __init__(self, topic: str, office: Office) -> None:
        self._topic = topic
        self._office = office
        self._stations: dict[tuple[str, str], Station] = {}

    def live(self) -> list[Outbox]:
        """Return the outboxes that somebody takes from, or comes back to."""
        return [station.outbox for station in self._stations.values() if station.open]

    def fit(self, subscribers: list[Subscriber]) -> None:
        """Fit the stations to those who subscribe now."""
        wanted: dict[tuple[str, str], dict[str, Subscriber]] = {}
        for subscriber in subscribers:
            key = (subscriber.queue, "" if subscriber.queue else subscriber.id)
            wanted.setdefault(key, {})[subscriber.id] = subscriber
        for key, members in wanted.items():
            if key not in self._stations:
                first = next(iter(members.values()))
                closed = partial(self._stations.pop, key, None)
                self._stations[key] = Station(self._office.new_outbox(first), first.returns, self._office, closed)
        for key, station in list(self._stations.items()):
            station.fit(wanted.get(key, {}))


class Station:
    """One outbox with the couriers of those who share it."""

    def __init__(self, outbox: Outbox, returns: bool, office: Office, closed: Callable[[], object]) -> None:
        self.outbox = outbox
        self.subscribers: dict[str, Subscriber] = {}
        self._returns = returns or bool(outbox.queue)
        self._office = office
        self._closed = closed
        self._couriers: dict[str, Courier] = {}
        self._former: set[Courier] = set()
        self._expiry: anyio.CancelScope | None = None

    @property
    def open(self) -> bool:
        """Whether it takes messages: for who is there, or has left not long ago and comes back by the same name."""
        return bool(self.subscribers) or self._returns

    def fit(self, subscribers: dict[str, Subscriber]) -> None:
        """Employ couriers for those who came, and dismiss those of a queue group who went."""
        self.subscribers = subscribers
        for id, subscriber in subscribers.items():
            if id in self._couriers:
                self._couriers[id].to = subscriber
            else:
                self._couriers[id] = self._office.employ(self.outbox, subscriber)
        for id in self._couriers.keys() - subscribers.keys():
            if self.outbox.queue:  # the one subscriber without a queue is tried until its messages expire
                self._former.add(self._couriers[id])
                self._couriers.pop(id).dismiss()
        self._former = {courier for courier in self._former if courier.held}
        self._set_expiry()

    def _set_expiry(self) -> None:
        if self.subscribers:
            if self._expiry:
                self._expiry.cancel()
            self._expiry = None
        elif not (self.outbox.count or self._returns):
            self._expire()
        elif self._expiry is None:
            self._expiry = self._office.expire(self._expire)

    def _expire(self) -> None:
        """Give up what is left, and close."""
        couriers = [*self._couriers.values(), *self._former]
        letters = self.outbox.take_all() + [letter for courier in couriers for letter in courier.held]
        for courier in couriers:
            courier.stop()
        if count := self.outbox.drop(letters):
            log.error("%d messages of topic %r dropped: nobody is left to take them", count, self.outbox.topic)
        self._closed()
