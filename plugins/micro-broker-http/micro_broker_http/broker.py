"""The http broker: a publisher and subscriptions on one listener."""

from __future__ import annotations

import logging
import random as randomness
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from msgspec.structs import replace

from micro_broker_http.settings import Settings
from micro_broker_http.subscribing.address import bind, bound_address
from micro_broker_http.subscribing.app import BrokerApp
from micro_broker_http.subscribing.inbox import Inbox
from micro_broker_http.wire.naming import lasting_id, node_id, records
from micro_core import (
    Broker,
    Capability,
    Change,
    ChangeKind,
    Closed,
    ConfigError,
    Publication,
    PublishStats,
    Record,
    Registry,
    Subscription,
    Tls,
)
from micro_core.address import advertised
from micro_core.delivery import Deliverer
from micro_core.middleware import Guard
from micro_core.registrar import Registrar
from micro_core.tasks import OwnedTasks

if TYPE_CHECKING:
    from micro_broker_http.publishing.publisher import Publisher
    from micro_broker_http.subscribing.listener import Listener

__all__ = ["HttpBroker"]

PROTOCOLS = ("h2", "http/1.1")
"""What is offered by ALPN."""
LAST_MOMENTS = 5.0
"""Seconds that clean-up may take where it waits for others."""
log = logging.getLogger("micro.broker.http")
LIBRARY_LEVELS = {
    logging.getLogger("httpx"): logging.WARNING,  # at INFO it writes a line for every batch
    logging.getLogger("hpack"): logging.INFO,  # at DEBUG it writes every header, tokens included
}
"""From which level on the loggers of libraries write, unless the program has chosen one (docs/logging.md)."""


class HttpBroker(Broker):
    """Point-to-point publish/subscribe over HTTP (docs/broker.md).

    Making one is cheap, so that a client's settings are checked at its start: httpx and the ASGI server, which take
    some hundred milliseconds to import, come when it is opened.
    Durations are seconds. ``clock``, ``sleep`` and ``random`` (0 to 1) are for tests.
    """

    name = "http"
    offers = frozenset({Capability.HANDLED, Capability.KNOWN_SUBSCRIBERS})

    def __init__(
        self,
        registry: Registry,
        *,
        address: str = "127.0.0.1:0",
        advertise: str = "",
        body_limit: int = 4 << 20,
        outbox_messages: int = 10_000,
        outbox_bytes: int = 32 << 20,
        keep: float = 60.0,
        confirm_timeout: float = 30.0,
        drain_timeout: float = 25.0,
        go_in_flight: int = 8,
        tls: Tls | None = None,
        guards: Sequence[Guard] = (),
        credentials: Mapping[str, str] = MappingProxyType({}),
        register_ttl: float = 60.0,
        register_interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._tls = tls or Tls()
        self._listening_tls = self._tls.for_server(PROTOCOLS) if self._tls.listens else None
        # What is wrong with them stops the start.
        self._calling_tls = self._tls.for_client(PROTOCOLS) if self._tls.calls else None
        if self._listening_tls is None:
            self._tls.check_clear_text(address, "the broker's listener at", listens=True)
        self._credentials = credentials
        self._registry = registry
        self._registrar = Registrar(registry, ttl=register_ttl, interval=register_interval, random=random)
        self._address = address
        self._advertise = advertise
        self._settings = Settings(
            body_limit=body_limit,
            outbox_messages=outbox_messages,
            outbox_bytes=outbox_bytes,
            keep=keep,
            confirm_timeout=confirm_timeout,
            drain_timeout=drain_timeout,
            go_in_flight=go_in_flight,
            clock=clock,
            sleep=sleep,
            random=random,
        )
        self._app = BrokerApp(body_limit=body_limit, guards=guards)
        self._tasks = OwnedTasks()
        self._listener: Listener | None = None
        self._publisher: Publisher | None = None
        self._bound = self._url = ""
        self._opened = False
        self._closed = False

    async def __aenter__(self) -> Self:
        if self._opened:
            raise Closed("a broker is opened once")
        from micro_broker_http.publishing.client import PostClient
        from micro_broker_http.publishing.publisher import Publisher
        from micro_broker_http.subscribing.listener import Listener

        self._opened = True
        _quiet_libraries()
        listening = await bind(self._address)
        try:
            self._bound = bound_address(listening)
            self._url = self._address_now()
        except ConfigError:
            listening.close()
            raise
        self._listener = Listener(self._app, listening, self._listening_tls)
        context = self._calling_tls or self._tls.for_client(PROTOCOLS)
        self._publisher = Publisher(
            self._registry, lambda: PostClient(self._tls, context, self._credentials), self._tasks, self._settings
        )
        await self._tasks.__aenter__()
        await self._registrar.__aenter__()
        self._tasks.start_soon(self._listener.run)
        log.info("broker listens at %s, registered as %s", bound_address(listening), self._url)
        return self

    @property
    def address(self) -> str:
        """The ``host:port`` that subscriptions are registered with; empty before the broker is open."""
        return self._url

    async def send(self, publication: Publication) -> None:
        confirm = publication.confirm == "handled"
        publisher = self._open_publisher()
        await publisher.publish(publication.topic, publication.message, confirm=confirm)

    def receive(self, subscription: Subscription) -> AbstractAsyncContextManager[None]:
        return self._receive(subscription)

    @asynccontextmanager
    async def _receive(self, subscription: Subscription) -> AsyncIterator[None]:
        directory = self._open_publisher().directory
        id = self._id_of(subscription)
        settings = self._settings
        deliverer = Deliverer(subscription, self.publish, sleep=settings.sleep, random=settings.random)
        inbox = Inbox(subscription, id, deliverer)
        published = records(
            id=id,
            topic=subscription.topic,
            queue=subscription.queue,
            address=self._url,
            secure=self._tls.listens,
            returns=bool(subscription.node),
        )
        self._app.inboxes[id] = inbox
        workers = Workers(inbox, subscription.concurrency)
        try:
            for record in published:
                await self._registrar.register(record, partial(self._as_it_is_now, record))
                directory.apply(Change(kind=ChangeKind.UPDATE, record=record))
            workers.start(self._tasks)
            yield
        finally:
            with anyio.CancelScope(shield=True):
                for record in published:
                    directory.apply(Change(kind=ChangeKind.DELETE, record=record))
                    await self._registrar.deregister(record)
                await workers.drain(self._settings.drain_timeout)
            self._app.inboxes.pop(id, None)

    def _id_of(self, subscription: Subscription) -> str:
        """Return what a subscription is posted to by: of a node that keeps its id, the same after a restart."""
        if subscription.node:
            named = (subscription.service, subscription.node, subscription.name, subscription.queue)
            id = lasting_id(subscription.topic, *named)
            if id not in self._app.inboxes:
                return id
        return node_id(subscription.topic, secrets.token_hex(5))

    def _address_now(self) -> str:
        return advertised(self._bound, self._advertise, self._registry.address_towards)

    def _as_it_is_now(self, record: Record) -> Record:
        self._url = self._address_now()
        return replace(record, nodes=tuple(replace(node, address=self._url) for node in record.nodes))

    async def flush(self) -> int:
        return 0 if self._publisher is None else await self._publisher.flush()

    def stats(self) -> PublishStats:
        return PublishStats(waiting=0, dropped=0) if self._publisher is None else self._publisher.stats()

    def _open_publisher(self) -> Publisher:
        if self._closed:
            raise Closed("the http broker was closed")
        if self._publisher is None:
            raise Closed("the http broker is not open: use it with 'async with'")
        return self._publisher

    async def aclose(self) -> None:
        await self._close(self._settings.drain_timeout)

    async def _close(self, patience: float) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.move_on_after(patience):
                await self.flush()
        finally:
            if left := self.stats().waiting:
                log.error("the http broker closes with %d messages not handled by their subscribers", left)
            with anyio.move_on_after(LAST_MOMENTS, shield=True):
                if self._listener:
                    await self._listener.stop()
                await self._registrar.aclose()
                await self._tasks.aclose()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._close(self._settings.drain_timeout)
        finally:
            await self._registrar.aclose()
            await self._tasks.aclose()

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._url or "not open"
        return f"<HttpBroker {state}, {len(self._app.inboxes)} subscriptions, {self.stats().waiting} waiting>"


class Workers:
    """The tasks that work on one inbox."""

    def __init__(self, inbox: Inbox, count: int) -> None:
        self._inbox = inbox
        self._count = count
        self._scope = anyio.CancelScope()
        self._running = False
        self._ended = anyio.Event()

    def start(self, tasks: OwnedTasks) -> None:
        """Start the workers."""
        self._running = True
        tasks.start_soon(self._run)

    async def _run(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    for _ in range(self._count):
                        group.start_soon(self._inbox.work)
        finally:
            self._ended.set()

    async def drain(self, patience: float) -> None:
        """Let handlers that run finish, bounded in time, and have the rest go unacknowledged."""
        self._inbox.leave()
        if self._running:
            with anyio.move_on_after(patience):
                await self._ended.wait()
            self._scope.cancel()
            await self._ended.wait()
        with anyio.move_on_after(LAST_MOMENTS):
            await self._inbox.end_answers()


def _quiet_libraries() -> None:
    """Keep what libraries say of every message out of the log; a level that the program has set stays."""
    for logger, level in LIBRARY_LEVELS.items():
        if logger.level == logging.NOTSET:
            logger.setLevel(level)
