"""The broker's contract: messages to whoever wants them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypedDict

import msgspec

from micro_core.errors import ConfigError, PublishError
from micro_core.message import Message
from micro_core.message_headers import wrong_header
from micro_core.topics import fits, is_pattern, topic_problem

__all__ = [
    "Broker",
    "Capability",
    "Confirm",
    "DeadLetter",
    "EventHandler",
    "Publication",
    "PublishOptions",
    "PublishStats",
    "Start",
    "Subscription",
    "fits",
]

EventHandler: TypeAlias = Callable[[str, Message], Awaitable[None]]
"""Takes topic and message, with the names in `Message.peer` where its publisher was verified (docs/tls.md).

Returning acknowledges it, raising does not.
"""

DeadLetter: TypeAlias = Callable[[str, Message, Exception], Awaitable[None]]
"""Takes topic, message and the last error of a message whose handler failed every time.

Returning acknowledges it; where it raises, it is called again after a pause.
"""

Confirm: TypeAlias = Literal["kept", "stored", "handled"]
"""What publishing waits for: ``kept`` in this process's outbox; ``stored``, so that the message survives this process;
``handled`` by every subscriber and queue group."""

Start: TypeAlias = Literal["new", "all"] | datetime
"""Where a subscription begins: with what is published from now on, with everything that is stored, or at a time."""

_PATIENCE: Final = 60.0
"""Seconds that the pauses between attempts grow to."""


class Capability(StrEnum):
    """What a broker may offer beyond the contract; the value says it in words."""

    HANDLED = 'confirm="handled"'
    """It learns when every subscriber has handled a message."""
    STORED = 'confirm="stored"'
    """It has messages outlive their publisher."""
    KNOWN_SUBSCRIBERS = "known subscribers"
    """It knows who subscribes, so that a message for nobody is an error."""
    PATTERNS = "topic patterns"
    """A subscription's topic may be a pattern: ``orders.*``, ``orders.>``."""
    DURABLE = "durable=True"
    """A subscription is remembered, and what is published meanwhile kept, while nobody is there to take it."""
    START = "start="
    """A subscription may begin with what was published before it."""
    ACK_WAIT = "ack_wait="
    """Seconds after which an unacknowledged message goes to another member can be chosen."""
    KEY = "key="
    """Messages of one key keep their order, whoever handles them."""
    DELAY = "delay="
    """A message may be delivered later."""


_STORING: Final = "brokers that store messages do, such as NATS JetStream, Redis Streams, RabbitMQ or Kafka"
_WHO: Final[Mapping[Capability, str]] = {
    Capability.HANDLED: "brokers that know their subscribers do: http and memory",
    Capability.KNOWN_SUBSCRIBERS: "http and memory do",
    Capability.PATTERNS: "memory, NATS and RabbitMQ do",
    Capability.DURABLE: f"memory does within a process, and {_STORING}",
    Capability.DELAY: "memory does, and RabbitMQ",
    Capability.KEY: "brokers with partitions do, such as Kafka",
}
"""Who offers a capability, for those that do not; `_STORING` where nothing is said."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """What a subscriber wants. Raises `ConfigError` for what cannot be."""

    topic: str
    """Printable characters without spaces, in parts between dots; ``*`` stands for one part, ``>`` for all that follow
    (`Capability.PATTERNS`)."""
    handler: EventHandler
    queue: str = ""
    """Members of one queue share the messages; without a queue every subscriber gets all."""
    concurrency: int = 1
    """How many messages are handled at a time; with 1 they keep the publisher's order, those apart that come again."""
    retries: int = 3
    """How often a message whose handler raised is handled again before it is a dead letter."""
    backoff: float | tuple[float, ...] = 0.1
    """Seconds before the first retry, about doubled for each further one up to a minute; or each pause, the last again
    and again."""
    dead_letter: DeadLetter | str | None = None
    """Gets what failed every time, a function or a topic; without one it is logged and counted."""
    service: str = ""
    """The name of the service that subscribes, and part of what the subscription is known by."""
    name: str = ""
    """What the subscription is known by within its service, from one start of a process to the next."""
    node: str = ""
    """The id of the node that subscribes, where it keeps it from one start to the next (``server_id``)."""
    durable: bool = False
    """Whether messages are kept while no member is there; under ``queue``, or ``service`` and ``name``."""
    start: Start = "new"
    """Where to begin: for a durable one, at its first start alone."""
    ack_wait: float = 0.0
    """Seconds until a message that was not acknowledged goes to another member; 0: as the broker has it."""
    options: Mapping[str, str | int | float | bool] = {}
    """What this broker alone understands, by `Broker.subscribe_options`."""

    def __post_init__(self) -> None:
        """Raise `ConfigError` for what cannot be."""
        check_counts(self.topic, concurrency=self.concurrency, retries=self.retries)
        if problem := topic_problem(self.topic, pattern=True):
            raise ConfigError(f"topic {self.topic!r} cannot be subscribed to: {problem}")
        if isinstance(self.dead_letter, str) and (problem := topic_problem(self.dead_letter)):
            raise ConfigError(f"dead_letter={self.dead_letter!r} of topic {self.topic!r} is no topic: {problem}")
        pauses = (self.backoff,) if isinstance(self.backoff, int | float) else tuple(self.backoff)
        if not pauses or not all(isinstance(each, int | float) and 0 <= each < float("inf") for each in pauses):
            raise ConfigError(
                f"backoff={self.backoff!r} of topic {self.topic!r} is not valid: seconds from 0, or several"
            )
        if not 0 <= self.ack_wait < float("inf"):
            raise ConfigError(f"ack_wait={self.ack_wait!r} of topic {self.topic!r} is not valid: seconds from 0")
        if self.durable and not (self.queue or self.name):
            raise ConfigError(f"a durable subscription of topic {self.topic!r} needs a queue or a name to be known by")

    def pause(self, attempt: int, random: float) -> float:
        """Return seconds to wait after the failed ``attempt``, counted from 1; ``random`` is from 0 to 1."""
        if isinstance(self.backoff, int | float):
            return min(_PATIENCE, self.backoff * 2.0 ** min(attempt - 1, 30)) * (0.75 + random / 2)
        return self.backoff[min(attempt, len(self.backoff)) - 1]


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way to its topic: what middleware sees, and `Broker.send` takes."""

    topic: str
    """As of a `Subscription`, without ``*`` and ``>``."""
    message: Message
    confirm: Confirm = "kept"
    key: str = ""
    """Messages of one key keep their order."""
    delay: float = 0.0
    """Seconds until it is delivered."""
    options: Mapping[str, str | int | float | bool] = {}
    """What this broker alone understands, by `Broker.publish_options`."""


class PublishOptions(TypedDict, total=False):
    """The keyword arguments of `Client.publish`, for type checkers; what each means is told there."""

    metadata: Mapping[str, str] | None
    confirm: Confirm | bool
    key: str
    delay: float
    options: Mapping[str, Any]


class PublishStats(msgspec.Struct, frozen=True, kw_only=True):
    """How a broker's publishing side stands."""

    waiting: int
    """Messages in outboxes: not stored yet, or, where the broker stores nothing, not handled yet, counted once for each
    subscriber."""
    dropped: int
    """Messages given up since the start, counted likewise; each was logged."""


class Broker(ABC):
    """Messages to whoever wants them. An async context manager; leaving waits for the outbox, bounded in time.

    A broker implements `send`, `receive`, `flush`, `stats` and `aclose`, and says in ``offers`` what else it can; the
    contract refuses everything beyond. `micro_core.delivery.Deliverer` has the rule of retries and dead letters, which
    every broker uses (docs/writing-a-broker.md).
    """

    name: ClassVar[str]
    """The entry point's name, published in the metadata of nodes."""
    offers: ClassVar[frozenset[Capability]] = frozenset()
    """What it can beyond the contract."""
    subscribe_options: ClassVar[frozenset[str]] = frozenset()
    """The names in `Subscription.options` that it understands."""
    publish_options: ClassVar[frozenset[str]] = frozenset()
    """The names in `Publication.options` that it understands."""

    async def publish(
        self,
        topic: str,
        message: Message,
        *,
        confirm: Confirm | bool = "kept",
        key: str = "",
        delay: float = 0.0,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Keep a message for every subscriber, and return when it is as far as ``confirm`` says.

        Where the outbox is full it waits for room. Header names are written as given. ``confirm=True`` is the strongest
        that the broker offers.

        Raises `ConfigError` for what the broker does not offer, for a topic and headers that cannot be; `PublishError`,
        which names the subscribers that have not handled the message, or, where subscribers are known, says that there
        is nobody to keep it for and why; `Closed`.
        """
        publication = Publication(
            topic=topic, message=message, confirm=self.strength(confirm), key=key, delay=delay, options=options
        )
        self.check(publication)
        await self.send(publication)

    def subscribe(self, subscription: Subscription) -> AbstractAsyncContextManager[None]:
        """Receive the messages of a topic until the context is left, which waits for handlers that are running.

        Entering returns when publishers can find the subscription. Raises `ConfigError` for what the broker does not
        offer, and, while entering, for what it cannot be asked for; `RegistryError` and other kinds of `Unavailable`
        where it can be tried again later; `Closed`.
        """
        self.check(subscription)
        return self.receive(subscription)

    def strength(self, confirm: Confirm | bool) -> Confirm:
        """Return what ``confirm`` means here: True is the strongest that is offered."""
        if confirm is True:
            return "handled" if Capability.HANDLED in self.offers else "stored"
        return confirm or "kept"

    def check(self, wanted: Publication | Subscription) -> None:
        """Raise `ConfigError` for what this broker does not offer, and for what no broker takes."""
        if isinstance(wanted, Publication):
            self._check_publication(wanted)
        else:
            self._check_subscription(wanted)

    def _check_publication(self, wanted: Publication) -> None:
        if problem := topic_problem(wanted.topic):
            raise PublishError(f"topic {wanted.topic!r} cannot be published to: {problem}")
        wrong = wrong_header(wanted.message.headers)
        if wrong is not None:
            raise PublishError(
                f"header {wrong!r} of a message on {wanted.topic!r} cannot be sent: a name is a token of letters, "
                "digits and hyphens, and a value has no control characters"
            )
        if wanted.confirm != "kept":
            if wanted.confirm not in ("stored", "handled"):
                raise ConfigError(f"confirm={wanted.confirm!r} is not valid; valid: 'kept', 'stored', 'handled'")
            self._check(Capability.STORED if wanted.confirm == "stored" else Capability.HANDLED)
        if wanted.key:
            self._check(Capability.KEY)
        if wanted.delay:
            self._check(Capability.DELAY)
            if not 0 < wanted.delay < float("inf"):
                raise ConfigError(f"delay={wanted.delay!r} is not valid: seconds from 0")
        if wanted.options:
            self._check_options(wanted.options, self.publish_options, "publish")

    def _check_subscription(self, wanted: Subscription) -> None:
        asked = {
            Capability.PATTERNS: is_pattern(wanted.topic),
            Capability.DURABLE: wanted.durable,
            Capability.START: wanted.start != "new",
            Capability.ACK_WAIT: wanted.ack_wait > 0,
        }
        for capability, is_asked in asked.items():
            if is_asked:
                self._check(capability)
        self._check_options(wanted.options, self.subscribe_options, "subscribe")

    def _check(self, capability: Capability) -> None:
        if capability not in self.offers:
            raise ConfigError(f"broker {self.name!r} does not offer {capability}: {_WHO.get(capability, _STORING)}")

    def _check_options(self, given: Mapping[str, Any], known: frozenset[str], where: str) -> None:
        for name in given:
            if name not in known:
                valid = ", ".join(sorted(known)) or "none"
                raise ConfigError(f"broker {self.name!r} has no option {name!r} to {where} with; it has: {valid}")

    @abstractmethod
    async def send(self, publication: Publication) -> None:
        """Publish what `check` let through; see `publish`."""

    @abstractmethod
    def receive(self, subscription: Subscription) -> AbstractAsyncContextManager[None]:
        """Subscribe to what `check` let through; see `subscribe`."""

    @abstractmethod
    async def flush(self) -> int:
        """Wait until the outbox is empty, within the caller's scope, and return how many messages are left.

        A message leaves the outbox when it is stored, or, where the broker stores nothing, when it is handled.
        """

    @abstractmethod
    def stats(self) -> PublishStats:
        """Return how the publishing side stands."""

    @abstractmethod
    async def aclose(self) -> None:
        """Wait for the outbox, bounded in time, log what is left, and let go. Closing twice is fine."""

    async def __aenter__(self) -> Self:
        """Open what the broker needs, within bounded time.

        Raises `ConfigError` for an address that cannot be bound, credentials that are refused, and whatever else trying
        again cannot mend. A server that is down is no error: the broker goes on connecting, and `send` and `receive`
        raise `Unavailable` until it is there.
        """
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


def check_counts(topic: str, *, concurrency: int, retries: int) -> None:
    """Raise `ConfigError` for what a subscriber of a topic cannot want."""
    for name, count, least in (("concurrency", concurrency, 1), ("retries", retries, 0)):
        if type(count) is not int or count < least:
            raise ConfigError(f"{name}={count!r} of topic {topic!r} is not valid: a whole number from {least}")
