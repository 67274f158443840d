"""The memory broker: publish/subscribe inside one process, with queues, retries, dead letters and bounded outboxes."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from micro_core.broker import Broker, Capability, Publication, PublishStats, Subscription
from micro_core.builtin.memory.group import Group, Letter, Member, known_by
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.delivery import Deliverer, Settled
from micro_core.errors import Closed, PublishError
from micro_core.hookspecs import hookimpl
from micro_core.message import Delivery, Message
from micro_core.tasks import OwnedTasks

__all__ = ["MemoryBroker", "make_broker"]

log = logging.getLogger("micro.broker.memory")

CLOSING_SECONDS = 5.0
"""Seconds that closing waits for the outbox."""

FLUSH_MARGIN = 0.05
"""Seconds before the caller's scope ends at which `MemoryBroker.flush` returns what is left."""

_numbers = count(1)


class MemoryBroker(Broker):
    """Publishes to the subscribers of a `MemoryNetwork`.

    ``outbox`` is how many messages may wait for one subscriber. What is published to a durable subscription lies in the
    outbox of its publisher while nobody is there to take it.
    """

    name = "memory"
    offers = frozenset(
        {
            Capability.HANDLED,
            Capability.KNOWN_SUBSCRIBERS,
            Capability.PATTERNS,
            Capability.DURABLE,
            Capability.DELAY,
        }
    )

    def __init__(self, *, network: MemoryNetwork | None = None, outbox: int = 1000) -> None:
        self.network = network or MemoryNetwork.join()
        self._outbox = outbox
        self._waiting: set[Letter] = set()
        self._dropped = 0
        self._settled = anyio.Event()
        self._tasks: OwnedTasks | None = None
        self._closed = False

    async def send(self, publication: Publication) -> None:
        topic, delivery = publication.topic, Delivery(id=str(next(_numbers)), time=time.time())
        groups = await self._groups_with_room(topic)
        letters = [Letter(self, group, topic, publication.message, delivery) for group in groups]
        for letter in letters:
            self._waiting.add(letter)
            if publication.delay:
                self._start(self._put, letter, publication.delay, letter.group.put)
            else:
                letter.group.put(letter)
        if publication.confirm == "kept":
            await anyio.lowlevel.checkpoint()
            return
        for letter in letters:
            await letter.done.wait()
        if failed := [letter.group.name for letter in letters if letter.outcome in (None, Settled.GIVEN_UP)]:
            raise PublishError(f"a message on {topic!r} was not handled by {', '.join(failed)}", failed=failed)

    async def _groups_with_room(self, topic: str) -> list[Group]:
        while True:
            self._check_open()
            groups = [group for group in self.network.groups if group.wants(topic)]
            if not groups:
                raise PublishError(f"nobody in this world subscribes to {topic!r}: the message was not kept")
            if all(self._waiting_for(group) < self._outbox for group in groups):
                return groups
            await self._settled.wait()

    def _waiting_for(self, group: Group) -> int:
        return sum(letter.group is group for letter in self._waiting)

    def settle(self, letter: Letter, outcome: Settled | None) -> None:
        """Take a message out of the outbox: it was settled, or (None) dropped because nobody is left."""
        if letter.done.is_set():
            return
        letter.outcome = outcome
        letter.done.set()
        self._waiting.discard(letter)
        if outcome is None:
            log.warning("a message on %r was dropped: %s is gone", letter.topic, letter.group.name)
        if outcome in (None, Settled.GIVEN_UP):
            self._dropped += 1
        self._settled.set()
        self._settled = anyio.Event()

    def later(self, letter: Letter, seconds: float) -> None:
        """Put a message back into its group after a time."""
        if letter not in self._waiting:
            return
        if seconds:
            self._start(self._put, letter, seconds, letter.group.put_back)
        else:
            letter.group.put_back(letter)

    async def _put(self, letter: Letter, seconds: float, put: Callable[[Letter], None]) -> None:
        await anyio.sleep(seconds)
        if letter.group not in self.network.groups:
            self.settle(letter, None)
        elif letter in self._waiting:
            put(letter)

    def _start(self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        assert self._tasks is not None
        self._tasks.start_soon(function, *arguments)

    def receive(self, subscription: Subscription) -> AbstractAsyncContextManager[None]:
        return self._receive(subscription)

    @asynccontextmanager
    async def _receive(self, subscription: Subscription) -> AsyncIterator[None]:
        self._check_open()
        deliverer = Deliverer(subscription, self._bury)
        member = Member(subscription, self._group(subscription), deliverer)
        for _ in range(subscription.concurrency):
            self._start(member.work)
        try:
            yield
        finally:
            await member.leave()
            if not (member.group.members or member.group.durable):
                self._forget(member.group)

    async def _bury(self, topic: str, message: Message) -> None:
        await self.publish(topic, message)

    def _group(self, subscription: Subscription) -> Group:
        key = known_by(subscription)
        for group in self.network.groups:
            if key and (group.topic, group.key) == (subscription.topic, key):
                return group
        self.network.groups.append(Group(subscription))
        return self.network.groups[-1]

    def _forget(self, group: Group) -> None:
        if group in self.network.groups:
            self.network.groups.remove(group)
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
        for letter in tuple(self._waiting):
            letter.group.forget(letter)
            self.settle(letter, None)

    def __repr__(self) -> str:
        state = "closed" if self._closed or self._tasks is None else "open"
        return f"<MemoryBroker {state}, {len(self._waiting)} waiting, {self._dropped} dropped>"


@hookimpl
def make_broker() -> Broker:
    """Return a memory broker of the current network."""
    return MemoryBroker()
