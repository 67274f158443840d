"""Subscribers: from a message of the broker, or an event on the rpc port, to the functions that want it."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypedDict

import anyio
import msgspec
import sniffio
from msgspec.structs import replace

from micro_core._app.handlers import message_of
from micro_core._settings.near_miss import did_you_mean
from micro_core._wire.codec_set import CodecSet, media_type
from micro_core.broker import DeadLetter, EventHandler, Start, Subscription
from micro_core.context import Context, _current
from micro_core.delivery import Reject, as_dead_letter
from micro_core.describe import describe
from micro_core.errors import BadRequest, ConfigError, InternalError
from micro_core.message import Message, Topic
from micro_core.middleware import Guard, HandleNext, SubscriberMiddleware, fold
from micro_core.registry import Endpoint

__all__ = ["Subscriber", "SubscriberOptions", "Subscribers"]

log = logging.getLogger("micro.server")


class SubscriberOptions(TypedDict, total=False):
    """The keyword arguments of a subscriber; what each means is told in `micro_core.Subscription`."""

    queue: str | bool
    """True for one that all nodes of the service share."""
    name: str
    """Without one it is the function's."""
    concurrency: int
    retries: int
    backoff: float | tuple[float, ...]
    dead_letter: DeadLetter | str | None
    durable: bool
    start: Start
    ack_wait: float
    options: Mapping[str, Any]


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """A function that wants the messages of a topic."""

    name: str
    topic: str
    function: HandleNext
    message_type: object
    options: SubscriberOptions
    """The further fields of its `Subscription`."""

    @classmethod
    def of(cls, function: Callable[..., object], topic: str | Topic[object], options: SubscriberOptions) -> Subscriber:
        """Return the subscriber of a function. Raises `ConfigError` where it cannot be one, or not of that topic."""
        name = function.__qualname__
        for option in options:
            if option not in SubscriberOptions.__annotations__:
                hint = did_you_mean(option, SubscriberOptions.__annotations__)
                raise ConfigError(f"subscriber {name}: there is no option {option!r}{hint}")
        adapted, message_type = message_of(function)
        if isinstance(topic, Topic):
            if message_type not in (Any, topic.type):
                raise ConfigError(f"subscriber {name} takes {message_type!r}: not what {topic!r} holds")
            message_type, topic = topic.type, topic.name
        subscriber = cls(name=name, topic=topic, function=adapted, message_type=message_type, options=options)
        subscriber.subscription("", _nothing)
        return subscriber

    def subscription(self, service: str, handler: EventHandler) -> Subscription:
        """Return what a service subscribes to for it. Raises `ConfigError`."""
        options: dict[str, Any] = {"name": self.name.rpartition("<locals>.")[2], **self.options}
        queue = options.pop("queue", "")
        named = queue if isinstance(queue, str) else service if queue else ""
        return Subscription(topic=self.topic, handler=handler, queue=named, service=service, **options)

    @property
    def endpoint(self) -> Endpoint:
        """The subscriber's description for the registry (docs/wire.md §3.10)."""
        return Endpoint(
            name=self.name.rpartition("<locals>.")[2],
            request=describe(self.message_type),
            metadata={"topic": self.topic, "subscriber": "true"},
        )


async def _nothing(topic: str, message: Message) -> None:
    """Stand for the handler while a subscription's other fields are checked."""


class Subscribers:
    """All subscribers of a service, behind its guards and within its middleware.

    ``forward`` publishes a message as it is, for dead letters that go to a topic; ``node`` is the id that the service
    keeps from one start to the next.
    """

    def __init__(
        self,
        service: str,
        subscribers: Sequence[Subscriber],
        codecs: CodecSet,
        middleware: Sequence[SubscriberMiddleware],
        guards: Sequence[Guard],
        forward: Callable[[str, Message], Awaitable[None]],
        node: str = "",
    ) -> None:
        self._service = service
        self._guards = tuple(guards)
        self._forward = forward
        self._node = node
        self._wanted = [_Wanted(subscriber, codecs, middleware) for subscriber in subscribers]

    def subscriptions(self) -> list[Subscription]:
        """Return what to subscribe to at the broker. Raises `ConfigError`."""
        return [self._subscription(wanted) for wanted in self._wanted]

    def _subscription(self, wanted: _Wanted) -> Subscription:
        subscription = replace(wanted.subscriber.subscription(self._service, self._handler(wanted)), node=self._node)
        if isinstance(subscription.dead_letter, str):
            subscription = replace(subscription, dead_letter=self._to_topic(subscription.dead_letter))
        return subscription

    def _to_topic(self, grave: str) -> DeadLetter:
        """Return a hook that publishes dead letters as the service publishes: with middleware and credentials."""

        async def bury(topic: str, message: Message, error: Exception) -> None:
            await self._forward(grave, as_dead_letter(topic, message, grave, error))

        return bury

    def _handler(self, wanted: _Wanted) -> EventHandler:
        async def handle(topic: str, message: Message) -> None:
            context = Context(message.headers, service=self._service, endpoint=topic, peer=message.peer)
            context.delivery = message.delivery
            self._check(context)
            token = _current.set(context)
            try:
                await wanted.run(context, _read(wanted, message))
            except (Exception, KeyboardInterrupt):
                raise
            except BaseException as error:  # no subscriber ends the process, or the broker's task
                if _is_cancelled(error):
                    raise
                raise InternalError(f"{wanted.subscriber.name} raised {type(error).__name__}") from error
            finally:
                _current.reset(token)

        return handle

    def _check(self, context: Context) -> None:
        """Ask the guards about a message that was not decoded yet; whatever they raise keeps it out."""
        for guard in self._guards:
            try:
                guard(context)
            except Exception as error:
                raise Reject(f"refused: {error}", bury=False) from error

    async def on_event(self, topic: str, message: Message, context: Context) -> None:
        """Hand an event of the rpc port to every subscriber of its topic; what nobody wants is ignored, as Go does."""
        all_wanted = [wanted for wanted in self._wanted if wanted.subscriber.topic == topic]
        if not all_wanted:
            log.warning("event for topic %r, which nobody here subscribes to", topic)
        failure: Exception | None = None
        for wanted in all_wanted:
            try:
                await wanted.run(context, wanted.read(message))
            except Exception as error:
                if failure is not None:
                    log.error("another subscriber of topic %r failed too", topic, exc_info=failure)
                failure = error
        if failure is not None:
            raise failure


def _is_cancelled(error: BaseException) -> bool:
    """Tell a cancellation of the broker's task from one that strayed out of a handler's own tasks."""
    if not isinstance(error, anyio.get_cancelled_exc_class()):
        return False
    if sniffio.current_async_library() != "asyncio" or anyio.current_effective_deadline() == -math.inf:
        return True
    from asyncio import current_task  # which nothing else imports before a program runs on it

    task = current_task()
    return task is not None and task.cancelling() > 0


class _Wanted:
    """A subscriber within its middleware, and how its messages are read: worked out once for each content type."""

    def __init__(self, subscriber: Subscriber, codecs: CodecSet, middleware: Sequence[SubscriberMiddleware]) -> None:
        self.subscriber = subscriber
        self._function = fold(subscriber.function, middleware)
        self._codecs = codecs
        self._decoders: dict[bytes, Callable[[bytes], object]] = {}

    def read(self, message: Message) -> Any:
        """Return what a message says. Raises `BadRequest`."""
        content_type = message.headers.get(b"Content-Type", b"application/protobuf")
        decode = self._decoders.get(content_type)
        if decode is None:
            decode = self._decoder(media_type(content_type.decode("latin-1")))
        return decode(message.body)

    def run(self, context: Context, value: object) -> Awaitable[None]:
        """Have the subscriber handle what a message says."""
        return self._function(context, value)

    def _decoder(self, content_type: str) -> Callable[[bytes], object]:
        key = content_type.encode("latin-1")
        decode = self._decoders.get(key)
        if decode is None:
            codec = self._codecs.find(content_type, self.subscriber.message_type)
            decode = self._decoders[key] = codec.decoder(self.subscriber.message_type)
        return decode


def _read(wanted: _Wanted, message: Message) -> object:
    """Return what a message says. Raises `Reject`: what cannot be read now never can."""
    try:
        return wanted.read(message)
    except BadRequest as error:
        raise Reject(f"it cannot be read: {error}") from error
