"""The memory broker: publish/subscribe inside one process, with queues, retries, dead letters and bounded outboxes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
import anyio.lowlevel

from micro_core.broker import Broker, PublishStats, Subscription
from micro_core.builtin.memory.group import Delivery, Group, Member
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.errors import Closed, ConfigError, PublishError
from micro_core.hookspecs import hookimpl
from micro_core.message import Message
from micro_core.tasks import OwnedTasks

__all__ = ["MemoryBroker", "make_broker"]

log = logging.getLogger("micro.broker.memory")

CLOSING_SECONDS = 5.0
"""How long closing waits for the outbox."""

FLUSH_MARGIN = 0.05
"""Seconds before the caller's scope ends at which `MemoryBroker.flush` returns what is left."""


class MemoryBroker(Broker):
    """Publishes to the subscribers of a `MemoryNetwork`.

    ``outbox`` is how many messages may wait for one subscriber, ``backoff`` the seconds before the first retry, doubled
    for each further one.
    """

    name = "memory"

    def __init__(self, *, network: MemoryNetwork | None = None, outbox: int = 1000, backoff: float = 0.05) -> None:
        self.network = network or MemoryNetwork.join()
        self._outbox = outbox
        self._backoff = backoff
        self._waiting: set[Delivery] = set()
        self._dropped = 0
        self._settled = anyio.Event()
        self._tasks: OwnedTasks | None = None
        self._closed = False

    async def publish(self, topic: str, message: Message, *, confirm: bool = False) -> None:
        groups = await self._groups_with_room(topic)
        deliveries = [Delivery(self, group, topic, message) for group in groups]
        for delivery in deliveries:
            self._waiting.add(delivery)
            delivery.group.put(delivery)
        if confirm:
            for delivery in deliveries:
                await delivery.done.wait()
            if failed := [delivery.group.name for delivery in deliveries if not delivery.handled]:
                raise PublishError(f"a message on {topic!r} was not handled by {', '.join(failed)}", failed=failed)
        else:
            await anyio.lowlevel.checkpoint()

    async def _groups_with_room(self, topic: str) -> list[Group]:
        while True:
            self._check_open()
            groups = list(self.network.groups.get(topic, ()))
            if not groups:
                raise PublishError(f"nobody in this world subscribes to {topic!r}: the message was not kept")
            if all(self._waiting_for(group) < self._outbox for group in groups):
                return groups
            await self._settled.wait()

    def _waiting_for(self, group: Group) -> int:
        return sum(delivery.group is group for delivery in self._waiting)

    def settle(self, delivery: Delivery, *, handled: bool, kept: bool = True) -> None:
        """Take a message out of the outbox: it was handled, or given up."""
        if delivery.done.is_set():
            return
        delivery.handled = handled
        delivery.done.set()
        self._waiting.discard(delivery)
        if not kept:
            self._dropped += 1
            log.warning("a message on %r was dropped: %s is gone", delivery.topic, delivery.group.name)
        self._settled.set()
        self._settled = anyio.Event()

    def subscribe(self, subscription: Subscription) -> AbstractAsyncContextManager[None]:
        return self._subscribe(subscription)

    @asynccontextmanager
    async def _subscribe(self, subscription: Subscription) -> AsyncIterator[None]:
        self._check_open()
        if not subscription.topic:
            raise ConfigError("a subscription needs a topic")
        assert self._tasks is not None
        member = Member(subscription, self._group(subscription), self._backoff)
        for _ in range(subscription.concurrency):
            self._tasks.start_soon(member.work)
        try:
            yield
        finally:
            await member.leave()
            if not member.group.members:
                self._forget(subscription.topic, member.group)

    def _group(self, subscription: Subscription) -> Group:
        groups = self.network.groups.setdefault(subscription.topic, [])
        for group in groups:
            if subscription.queue and group.queue == subscription.queue:
                return group
        groups.append(Group(subscription.topic, subscription.queue))
        return groups[-1]

    def _forget(self, topic: str, group: Group) -> None:
        groups = self.network.groups.get(topic, [])
        if group in groups:
            groups.remove(group)
        if not groups:
            self.network.groups.pop(topic, None)
        group.drop_all()

    async def flush(self) -> int:
        with anyio.CancelScope(deadline=anyio.current_effective_deadline() - FLUSH_MARGIN):
            while self._waiting:
                await self._settled.wait()
        return len(self._waiting)

    def stats(self) -> PublishStats:
        return PublishStats(waiting=len(self._waiting), dropped=self._dropped)

    def _check_open(self) -> None:
        if self._closed or self._tasks is None:
            raise Closed("the memory broker is not open")

    async def __aenter__(self) -> Self:
        self._tasks = await OwnedTasks().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        try:
            await self.aclose()
        finally:
            await self._tasks.aclose()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._settled.set()
        self._settled = anyio.Event()
        with anyio.move_on_after(CLOSING_SECONDS):
            await self.flush()
        for delivery in tuple(self._waiting):
            delivery.group.forget(delivery)
            self.settle(delivery, handled=False, kept=False)

    def __repr__(self) -> str:
        state = "closed" if self._closed or self._tasks is None else "open"
        return f"<MemoryBroker {state}, {len(self._waiting)} waiting, {self._dropped} dropped>"


@hookimpl
def make_broker() -> Broker:
    """Return a memory broker of the current network."""
    return MemoryBroker()
