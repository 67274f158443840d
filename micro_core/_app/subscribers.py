"""Subscribers: from a message of the broker, or an event on the rpc port, to the functions that want it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import anyio
import msgspec
import sniffio

from micro_core._app.handlers import message_of
from micro_core._settings.near_miss import did_you_mean
from micro_core._wire.codec_set import CodecSet, media_type
from micro_core.broker import DeadLetter, Subscription, check_counts
from micro_core.context import Context, _current
from micro_core.describe import describe
from micro_core.errors import ConfigError, InternalError
from micro_core.message import Message, Topic
from micro_core.middleware import HandleNext, SubscriberMiddleware, fold
from micro_core.registry import Endpoint

__all__ = ["Subscriber", "SubscriberOptions", "Subscribers"]

log = logging.getLogger("micro.server")


class SubscriberOptions(TypedDict, total=False):
    """The keyword arguments of a subscriber; what each means is told in `micro_core.Subscription`."""

    queue: str
    concurrency: int
    retries: int
    dead_letter: DeadLetter | None


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """A function that wants the messages of a topic."""

    name: str
    topic: str
    function: HandleNext
    message_type: object
    queue: str = ""
    concurrency: int = 1
    retries: int = 3
    dead_letter: DeadLetter | None = None

    def __post_init__(self) -> None:
        check_counts(self.topic, concurrency=self.concurrency, retries=self.retries)

    @classmethod
    def of(cls, function: Callable[..., object], topic: str | Topic[object], options: SubscriberOptions) -> Subscriber:
        """Return the subscriber of a function. Raises `ConfigError` where it cannot be one, or not of that topic."""
        for name in options:
            if name not in SubscriberOptions.__annotations__:
                hint = did_you_mean(name, SubscriberOptions.__annotations__)
                raise ConfigError(f"subscriber {function.__qualname__}: there is no option {name!r}{hint}")
        adapted, message_type = message_of(function)
        if isinstance(topic, Topic):
            if message_type not in (Any, topic.type):
                raise ConfigError(
                    f"subscriber {function.__qualname__} takes {message_type!r}: not what {topic!r} holds"
                )
            message_type, topic = topic.type, topic.name
        return cls(name=function.__qualname__, topic=topic, function=adapted, message_type=message_type, **options)

    @property
    def endpoint(self) -> Endpoint:
        """The subscriber's description for the registry (docs/wire.md §3.10)."""
        return Endpoint(
            name=self.name.rpartition("<locals>.")[2],
            request=describe(self.message_type),
            metadata={"topic": self.topic, "subscriber": "true"},
        )


class Subscribers:
    """All subscribers of a service, with their middleware."""

    def __init__(
        self,
        service: str,
        subscribers: Sequence[Subscriber],
        codecs: CodecSet,
        middleware: Sequence[SubscriberMiddleware],
    ) -> None:
        self._service = service
        self._wanted = [_Wanted(subscriber, codecs, middleware) for subscriber in subscribers]

    def subscriptions(self) -> list[Subscription]:
        """Return what to subscribe to at the broker."""
        return [
            Subscription(
                topic=wanted.subscriber.topic,
                handler=self._handler(wanted),
                queue=wanted.subscriber.queue,
                concurrency=wanted.subscriber.concurrency,
                retries=wanted.subscriber.retries,
                dead_letter=wanted.subscriber.dead_letter,
            )
            for wanted in self._wanted
        ]

    def _handler(self, wanted: _Wanted) -> Callable[[str, Message], Any]:
        async def handle(topic: str, message: Message) -> None:
            context = Context(message.headers, service=self._service, endpoint=topic, peer=message.peer)
            token = _current.set(context)
            try:
                await wanted.deliver(message, context)
            except (Exception, KeyboardInterrupt):
                raise
            except BaseException as error:  # no subscriber ends the process, or the broker's task
                if _is_cancelled(error):
                    raise
                raise InternalError(f"{wanted.subscriber.name} raised {type(error).__name__}") from error
            finally:
                _current.reset(token)

        return handle

    async def on_event(self, topic: str, message: Message, context: Context) -> None:
        """Hand an event of the rpc port to every subscriber of its topic; what nobody wants is ignored, as Go does."""
        all_wanted = [wanted for wanted in self._wanted if wanted.subscriber.topic == topic]
        if not all_wanted:
            log.warning("event for topic %r, which nobody here subscribes to", topic)
        failure: Exception | None = None
        for wanted in all_wanted:
            try:
                await wanted.deliver(message, context)
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

    async def deliver(self, message: Message, context: Context) -> None:
        content_type = message.headers.get(b"Content-Type", b"application/protobuf")
        decode = self._decoders.get(content_type)
        if decode is None:
            decode = self._decoder(media_type(content_type.decode("latin-1")))
        await self._function(context, decode(message.body))

    def _decoder(self, content_type: str) -> Callable[[bytes], object]:
        key = content_type.encode("latin-1")
        decode = self._decoders.get(key)
        if decode is None:
            codec = self._codecs.find(content_type, self.subscriber.message_type)
            decode = self._decoders[key] = codec.decoder(self.subscriber.message_type)
        return decode
