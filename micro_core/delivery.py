"""Deliver, retry, bury: what becomes of a message at its subscriber, decided in one place for every broker."""

from __future__ import annotations

import logging
import random as randomness
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import TypeAlias

import anyio
import msgspec
from msgspec.structs import replace

from micro_core.broker import Subscription
from micro_core.errors import ConfigError
from micro_core.message import Delivery, Message

__all__ = ["Again", "Deliverer", "Delivery", "Outcome", "Reject", "Requeue", "Settled", "as_dead_letter"]

log = logging.getLogger("micro.broker")

_REMEMBERED = 1000
"""Errors of messages whose burial failed that are remembered until they come again."""


class Requeue(Exception):
    """Raised by a handler that wants its message again: it goes back to the broker, and holds up nobody meanwhile.

    ``after`` is in seconds; without it the pause is the subscription's ``backoff``. It counts as one of the attempts:
    after ``retries`` of them the message is a dead letter.
    """

    def __init__(self, detail: str = "the handler wants it again", *, after: float | None = None) -> None:
        if after is not None and not 0 <= after < float("inf"):
            raise ConfigError(f"Requeue(after={after!r}) is not valid: seconds from 0")
        super().__init__(detail)
        self.after = after


class Reject(Exception):
    """Raised by a handler that can never handle its message: it is a dead letter at once, without further attempts.

    With ``bury=False`` it is dropped and logged instead, dead-letter hook or not.
    """

    def __init__(self, detail: str = "the handler rejects it", *, bury: bool = True) -> None:
        super().__init__(detail)
        self.bury = bury


class Settled(Enum):
    """How a message ended; each is acknowledged to the broker."""

    HANDLED = auto()
    """By its handler."""
    BURIED = auto()
    """As a dead letter that the hook or topic took: as good as handled."""
    GIVEN_UP = auto()
    """In vain: a publisher that confirms is told."""


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is not acknowledged, and comes again: to this member or another."""

    after: float
    """Seconds until then."""
    attempt: int
    """What `Delivery.attempt` is by then, where the broker does not count for itself."""


Outcome: TypeAlias = Settled | Again


class Deliverer:
    """Has the messages of one subscription handled, by the rules of docs/broker.md.

    `deliver` is called for up to ``subscription.concurrency`` messages at a time. ``publish`` takes topic and message
    where dead letters go to a topic. ``sleep`` and ``random`` (0 to 1) are for tests.
    """

    def __init__(
        self,
        subscription: Subscription,
        publish: Callable[[str, Message], Awaitable[None]],
        *,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._subscription = subscription
        self._publish = publish
        self._sleep = sleep
        self._random = random
        self._left = anyio.Event()
        self._unburied: OrderedDict[str, Exception] = OrderedDict()

    async def deliver(self, topic: str, message: Message) -> Outcome:
        """Return what became of a message, which has its `Delivery`; the broker acknowledges it, or has it come again.

        With a concurrency of 1 the pauses between attempts pass in here, so that order is kept; with more, and where
        the handler asks for it, the message is to come again, and nobody waits.
        """
        delivery = message.delivery or Delivery(id="")
        error = self._unburied.pop(delivery.id, None)
        while error is None and delivery.attempt <= self._subscription.retries + 1:
            error = await self._attempt(topic, message, delivery)
            if error is None:
                return Settled.HANDLED
            if isinstance(error, Reject):
                if not error.bury:
                    log.warning("a message on %r is dropped: %s", topic, error)
                    return Settled.GIVEN_UP
                break
            if delivery.attempt > self._subscription.retries:
                break
            pause, holds = self._pause(delivery.attempt, error)
            delivery = replace(delivery, attempt=delivery.attempt + 1, redelivered=True)
            if not holds:
                return Again(after=pause, attempt=delivery.attempt)
            if not await self._wait(pause):
                return Again(after=0.0, attempt=delivery.attempt)
            error = None
        if error is None:
            error = Reject(f"it failed at each of {delivery.attempt - 1} attempts")
        return await self._bury(topic, message, delivery, error)

    async def _attempt(self, topic: str, message: Message, delivery: Delivery) -> Exception | None:
        """Hand a copy of the message to the handler, and return what it raised."""
        try:
            await self._subscription.handler(
                topic, Message(dict(message.headers), message.body, message.peer, delivery)
            )
        except Exception as error:
            of = self._subscription.retries + 1
            log.warning("a message on %r failed, attempt %d of %d", topic, delivery.attempt, of, exc_info=error)
            return error
        return None

    def _pause(self, attempt: int, error: Exception) -> tuple[float, bool]:
        """Return the seconds until the next attempt, and whether those behind the message wait for it."""
        pause = self._subscription.pause(attempt, self._random())
        if isinstance(error, Requeue):
            return pause if error.after is None else error.after, False
        return pause, self._subscription.concurrency == 1

    async def _bury(self, topic: str, message: Message, delivery: Delivery, error: Exception) -> Outcome:
        """Give a message to the dead-letter hook or topic; where that fails it comes again, to be buried alone."""
        grave = self._subscription.dead_letter
        cause = error.__cause__ if isinstance(error, Reject) and isinstance(error.__cause__, Exception) else error
        if grave is None:
            log.error("a message on %r is given up after attempt %d", topic, delivery.attempt, exc_info=cause)
            return Settled.GIVEN_UP
        letter = Message(dict(message.headers), message.body, message.peer, delivery)
        try:
            if isinstance(grave, str):
                await self._publish(grave, as_dead_letter(topic, letter, grave, cause))
            else:
                await grave(topic, letter, cause)
        except Exception:
            log.exception("the dead letter of a message on %r was not taken; it is tried again", topic)
            return self._unburiable(delivery, error)
        return Settled.BURIED

    def _unburiable(self, delivery: Delivery, error: Exception) -> Again:
        self._unburied[delivery.id] = error
        if len(self._unburied) > _REMEMBERED:
            self._unburied.popitem(last=False)
        attempt = max(delivery.attempt, self._subscription.retries + 1) + 1
        return Again(after=self._subscription.pause(attempt, self._random()), attempt=attempt)

    async def _wait(self, seconds: float) -> bool:
        """Wait before the next attempt; return whether there may be one."""
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                await self._sleep(seconds)
                group.cancel_scope.cancel()

            group.start_soon(wait)
            await self._left.wait()
            group.cancel_scope.cancel()
        return not self._left.is_set()

    def leave(self) -> None:
        """End the pauses: what waits for its next attempt comes again, elsewhere or later."""
        self._left.set()


def as_dead_letter(topic: str, message: Message, grave: str, error: Exception) -> Message:
    """Return a message for the topic of dead letters, with headers that say where it comes from and why."""
    why = " ".join(f"{type(error).__name__}: {error}".split())[:1000]
    headers = {
        **message.headers,
        b"Micro-Topic": grave.encode(),
        b"Micro-Dead-Topic": topic.encode(),
        b"Micro-Dead-Error": "".join(filter(str.isprintable, why)).encode("utf-8", "replace"),
    }
    return Message(headers, message.body)
