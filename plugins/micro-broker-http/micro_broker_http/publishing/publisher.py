"""The publishing side: who gets a message, and how far it is."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable

import anyio
import anyio.lowlevel
import httpx

from micro_broker_http.publishing.courier import Courier, Means
from micro_broker_http.publishing.directory import Directory
from micro_broker_http.publishing.outbox import Letter, Outbox, Parcel, Receipt
from micro_broker_http.publishing.stations import Route
from micro_broker_http.settings import Settings
from micro_broker_http.wire.batch import encode_item
from micro_broker_http.wire.naming import Subscriber
from micro_core import Message, PublishError, PublishStats, Registry, RegistryError
from micro_core.tasks import OwnedTasks

__all__ = ["Publisher"]

FLUSH_MARGIN = 0.05
"""Seconds before the caller's deadline at which `flush` returns, so that its result can still be used."""


class Publisher:
    """Outboxes for the subscribers of every topic that was published to, and the couriers that empty them."""

    def __init__(
        self, registry: Registry, new_client: Callable[[], httpx.AsyncClient], tasks: OwnedTasks, settings: Settings
    ) -> None:
        self.directory = Directory(registry, self._refit, sleep=settings.sleep, random=settings.random)
        self._registry = registry
        self._tasks = tasks
        self._settings = settings
        self._means = Means(
            new_client=new_client,
            publisher=secrets.token_bytes(12),
            settings=settings,
            check=self._check,
            later=self._later,
        )
        self._routes: dict[str, Route] = {}
        self._number = 0
        self._waiting = 0
        self._dropped = 0
        self._empty = anyio.Event()
        self._following = False

    async def publish(self, topic: str, message: Message, *, confirm: bool) -> None:
        """Keep a message for all subscribers; with ``confirm`` wait until they have handled it."""
        await anyio.lowlevel.checkpoint()
        now = time.time()
        item = encode_item(self._number, message, now)
        self._number += 1
        if len(item) > self._settings.message_limit:
            limit = self._settings.message_limit
            raise PublishError(f"a message of {len(item)} bytes cannot be published: body_limit allows {limit}")
        route = self._routes.get(topic) or await self._find(topic)
        outboxes = await self._with_room(route, len(item))
        if not outboxes:
            await self._ask(topic)
            outboxes = await self._with_room(route, len(item))
        if not outboxes:
            raise PublishError(self._nobody(topic))
        receipt = Receipt() if confirm else None
        parcel = Parcel(topic, Message(dict(message.headers), message.body), self._number - 1, now, item)
        for outbox in outboxes:
            letter = Letter(parcel, outbox, receipt)
            if receipt:
                receipt.expect(letter)
            self._waiting += 1
            outbox.add(letter)
        if receipt:
            await _confirmed(receipt, topic, self._settings.confirm_timeout)

    async def _find(self, topic: str) -> Route:
        """Return the route of a topic that was not published to before."""
        if not self._following:
            self._following = True
            self._tasks.start_soon(self.directory.run)
        await self.directory.ready()
        if topic not in self._routes:
            self._routes[topic] = Route(topic, self)
            self._refit(topic)
        return self._routes[topic]

    async def _with_room(self, route: Route, size: int) -> list[Outbox]:
        """Return the outboxes of a topic when each has room."""
        while True:
            outboxes = route.live()
            full = next((outbox for outbox in outboxes if not outbox.makes_room(size)), None)
            if full is None:
                return outboxes
            await full.room()

    async def _ask(self, topic: str) -> None:
        """Ask the registry, for nobody is known. Raises `PublishError` where it does not answer."""
        try:
            await self.directory.refresh()
        except RegistryError as error:
            raise PublishError(
                f"no subscriber of topic {topic!r} is known: the registry gave no answer: {error}"
            ) from error

    def _nobody(self, topic: str) -> str:
        topics = self.directory.topics()
        known = f"subscribers of {', '.join(map(repr, topics[:10]))} only" if topics else "no subscribers at all"
        return f"no subscriber of topic {topic!r} is known: registry {self._registry.name!r} knows {known}"

    def _refit(self, topic: str) -> None:
        """Fit outboxes and couriers of a topic to those who subscribe to it now."""
        if topic in self._routes:
            self._routes[topic].fit(self.directory.of(topic))

    async def _check(self, subscriber: Subscriber, gone: bool) -> None:
        """Forget a subscriber that fails and that the registry does not know any more, or that says that it is gone."""
        if gone:  # a registry that is written down cannot tell
            return self.directory.forget(subscriber)
        try:
            found = await self.directory.refresh()
        except RegistryError:
            return None
        if subscriber.id not in {known.id for known in found}:
            self.directory.forget(subscriber)
        return None

    def new_outbox(self, subscriber: Subscriber) -> Outbox:
        """Return an empty outbox for a subscriber, or for its queue group."""
        return Outbox(
            topic=subscriber.topic,
            queue=subscriber.queue,
            most_messages=self._settings.outbox_messages,
            most_bytes=self._settings.outbox_bytes,
            settled=self._settled,
            dropped=self._gave_up,
            choose=lambda count: min(int(self._settings.random() * count), count - 1),
        )

    def employ(self, outbox: Outbox, subscriber: Subscriber) -> Courier:
        """Return a courier that is at work."""
        courier = Courier(outbox, subscriber, self._means)
        outbox.join(subscriber.id)
        self._tasks.start_soon(courier.run)
        return courier

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        if not seconds:
            return function()
        self._tasks.start_soon(self._expire, anyio.CancelScope(), function, seconds)
        return None

    def expire(self, expired: Callable[[], None]) -> anyio.CancelScope:
        """Call a function after the time that messages are kept for those who went; cancel the scope to prevent it."""
        scope = anyio.CancelScope()
        self._tasks.start_soon(self._expire, scope, expired, self._settings.keep)
        return scope

    async def _expire(self, scope: anyio.CancelScope, expired: Callable[[], None], seconds: float) -> None:
        with scope:
            await self._settings.sleep(seconds)
            expired()

    def _settled(self, count: int) -> None:
        self._waiting -= count
        if not self._waiting:
            self._empty.set()

    def _gave_up(self, count: int) -> None:
        self._dropped += count
        self._settled(count)

    async def flush(self) -> int:
        """Wait until nothing is waiting, or the caller's time is nearly over, and return how much is left."""
        with anyio.CancelScope(deadline=anyio.current_effective_deadline() - FLUSH_MARGIN):
            while self._waiting:
                if self._empty.is_set():
                    self._empty = anyio.Event()
                await self._empty.wait()
        return self._waiting

    def stats(self) -> PublishStats:
        """Return how the publishing side stands."""
        return PublishStats(waiting=self._waiting, dropped=self._dropped)


async def _confirmed(receipt: Receipt, topic: str, timeout: float) -> None:
    with anyio.move_on_after(timeout if timeout > 0 else math.inf):
        await receipt.wait()
    if failed := receipt.failed():
        raise PublishError(f"a message of topic {topic!r} was not handled by {', '.join(failed)}", failed=failed)
