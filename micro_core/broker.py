"""The broker's contract: messages to whoever wants them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import ClassVar, Self, TypeAlias

import msgspec

from micro_core.errors import ConfigError
from micro_core.message import Message

__all__ = ["Broker", "DeadLetter", "EventHandler", "PublishStats", "Subscription"]

EventHandler: TypeAlias = Callable[[str, Message], Awaitable[None]]
"""Takes topic and message, with the names in `Message.peer` where its publisher was verified (docs/tls.md).

Returning acknowledges it, raising does not.
"""

DeadLetter: TypeAlias = Callable[[str, Message, Exception], Awaitable[None]]
"""Takes topic, message and the last error of a message whose handler failed every time; returning acknowledges it."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber wants."""

    topic: str
    handler: EventHandler
    queue: str = ""
    """Members of one queue share the messages; without a queue every subscriber gets all."""
    concurrency: int = 1
    """How many messages are handled at a time; with 1 they keep the publisher's order."""
    retries: int = 3
    """How often a message whose handler raised is handled again, with backoff, before it is a dead letter."""
    dead_letter: DeadLetter | None = None
    """Gets what failed every time; without one it is logged and counted."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a concurrency or retries that cannot be."""
        check_counts(self.topic, concurrency=self.concurrency, retries=self.retries)


def check_counts(topic: str, *, concurrency: int, retries: int) -> None:
    """Raise `ConfigError` for what a subscriber of a topic cannot want."""
    for name, count, least in (("concurrency", concurrency, 1), ("retries", retries, 0)):
        if type(count) is not int or count < least:
            raise ConfigError(f"{name}={count!r} of topic {topic!r} is not valid: a whole number from {least}")


class PublishStats(msgspec.Struct, frozen=True, kw_only=True):
    """How a broker's publishing side stands."""

    waiting: int
    """Messages in outboxes, not acknowledged yet, counted once for each subscriber."""
    dropped: int
    """Messages given up since the start, counted likewise; each was logged."""


class Broker(ABC):
    """Messages to whoever wants them. An async context manager; leaving waits for the outbox, bounded in time."""

    name: ClassVar[str]
    """The entry point's name, published in the metadata of nodes."""

    @abstractmethod
    async def publish(self, topic: str, message: Message, *, confirm: bool = False) -> None:
        """Keep a message for every subscriber known now; with ``confirm``, return when each has handled it.

        Where the outbox is full it waits for room. Header names are written as given.

        Raises `PublishError`, which names the subscribers that have not handled it (``confirm``), or says that there is
        nobody to keep it for and why; `Closed`.
        """

    @abstractmethod
    def subscribe(self, subscription: Subscription) -> AbstractAsyncContextManager[None]:
        """Receive the messages of a topic until the context is left, which waits for handlers that are running.

        Entering returns when publishers can find the subscription. Raises `RegistryError`, `ConfigError`.
        """

    @abstractmethod
    async def flush(self) -> int:
        """Wait until the outbox is empty, within the caller's scope, and return how many messages are left."""

    @abstractmethod
    def stats(self) -> PublishStats:
        """Return how the publishing side stands."""

    @abstractmethod
    async def aclose(self) -> None:
        """Wait for the outbox, bounded in time, log what is left, and let go. Closing twice is fine."""

    async def __aenter__(self) -> Self:
        """Open what the broker needs; raises `ConfigError` for an address that cannot be bound."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
