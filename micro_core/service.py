"""A service: handlers and subscribers with a name, and the life of the process that runs them."""

from __future__ import annotations

import inspect
import logging
import math
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack, overload

import anyio
from msgspec.structs import replace

from micro_core._app.assembly import Parts, load_parts, load_settings
from micro_core._app.client import Client
from micro_core._app.contract import handlers_of, unimplemented
from micro_core._app.debug import Debug, DebugCodec
from micro_core._app.handlers import camel_case, endpoint_of, handler_of, with_class_options
from micro_core._app.subscribers import Subscriber, SubscriberOptions, Subscribers
from micro_core._plugins.host import PluginHost
from micro_core._wire.codec_set import CodecSet
from micro_core.address import advertised, is_loopback, reach
from micro_core.broker import Broker, Subscription
from micro_core.client import Caller
from micro_core.codec import Codec
from micro_core.config import Settings
from micro_core.context import Context, service_state
from micro_core.errors import Closed, ConfigError, EncodeError, RegistryError, Unavailable
from micro_core.lifespan import lifespan_of
from micro_core.message import Topic
from micro_core.registrar import Registrar
from micro_core.registry import Node, Record, Registry
from micro_core.selector import Selector
from micro_core.server import Handler, Running, Server
from micro_core.tasks import Hosted, OwnedTasks
from micro_core.tls import Tls
from micro_core.transport import Limits, Transport

__all__ = ["Service"]

log = logging.getLogger("micro.service")

Registered = TypeVar("Registered")
Payload = TypeVar("Payload")
Returned = TypeVar("Returned", bound=Awaitable[object])
Hook = TypeVar("Hook", bound=Callable[[], object])

FAREWELL_SECONDS = 0.1
"""How long who lingers still says that it is stopping when it has nothing left to do: callers take other connections,
which where all nodes are behind one address is the only news that they get."""

FIRST_PAUSE = 0.5
"""Seconds until a registry that was down is tried again; doubled each time, up to the interval of renewals."""


class Subscribing(Protocol[Payload]):
    """Takes a function of messages of one type, a `Context` behind them or none, and returns it."""

    @overload
    def __call__(self, function: Callable[[Payload], Returned], /) -> Callable[[Payload], Returned]: ...
    @overload
    def __call__(
        self, function: Callable[[Payload, Context], Returned], /
    ) -> Callable[[Payload, Context], Returned]: ...


class Service:
    """Handlers and subscribers with a name. ``async with service:`` runs it; `run` does that for a whole process.

    Each part is a configuration string or an instance, which the service then opens and closes; what is not given comes
    from flags, environment, file or default (docs/configuration.md). ``tls`` stands in for the settings of that name;
    ``plugins`` has plugins registered in code.
    ``lifespan`` is an async context manager function that takes the service and is open as long as it runs; what it
    yields is `Context.state` to handlers, subscribers and their calls, and `state` here.
    ``linger`` is how many seconds a service that has deregistered goes on serving callers that have not heard of it,
    ``drain_timeout`` how many it waits for calls under way. Below 0 they raise `ConfigError`; entering raises it and
    `PluginError`.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str | None = None,
        address: str | None = None,
        metadata: Mapping[str, str] | None = None,
        registry: str | Registry | None = None,
        selector: str | Selector | None = None,
        transport: str | Transport | None = None,
        codec: str | Codec | Sequence[str | Codec] | None = None,
        broker: str | Broker | None = None,
        client: str | Caller | None = None,
        server: str | Server | None = None,
        tls: Tls | None = None,
        extensions: str | Sequence[str] | None = None,
        plugins: PluginHost | None = None,
        limits: Limits | None = None,
        lifespan: Callable[[Service], AbstractAsyncContextManager[object]] | None = None,
        linger: float | None = None,
        drain_timeout: float | None = None,
        argv: Sequence[str] = (),
    ) -> None:
        for what, seconds in (("linger", linger), ("drain_timeout", drain_timeout)):
            if seconds is not None and (not isinstance(seconds, int | float) or not 0 <= seconds < math.inf):
                raise ConfigError(f"{what}={seconds!r} of service {name!r} is not valid: seconds, not less than 0")
        self._given: dict[str, object] = {
            "server_name": name,
            "server_version": version,
            "server_address": address,
            "server_metadata": metadata,
            "registry": registry,
            "selector": selector,
            "transport": transport,
            "codec": codec,
            "broker": broker,
            "client": client,
            "server": server,
            "tls": tls,
            "extensions": extensions,
            "linger": linger,
            "drain_timeout": drain_timeout,
        }
        if limits is not None:
            self._given |= {f"limit_{field}": getattr(limits, field) for field in limits.__struct_fields__}
        self._name = name
        self._plugins = plugins
        self._argv = tuple(argv)
        self._lifespan = lifespan
        self._handlers: dict[str, Handler] = {}
        self._subscribers: list[Subscriber] = []
        self._hooks: dict[str, list[Callable[[], object]]] = {}
        self._client = Client()
        self._host: Hosted[None] | None = None
        self._entered = False
        self._running: Running | None = None
        self._node: Node | None = None
        self._state: Any = None
        self._settings: Settings | None = None
        """Read already by `run`, for the next start."""
        self.handler(Debug())

    def __repr__(self) -> str:
        where = "stopped" if self._running is None else f"at {self._running.address}"
        handlers = sum(not handler.internal for handler in self._handlers.values())
        return f"<Service {self.name} {where}, {handlers} handlers, {len(self._subscribers)} subscribers>"

    @property
    def name(self) -> str:
        """The service's name; flags and environment may change it until it is entered."""
        return self._name

    @property
    def client(self) -> Client:
        """A client on the service's own parts, for use while it runs."""
        return self._client

    @property
    def address(self) -> str:
        """The address bound, ``host:port``. Raises `Closed` where the service does not run."""
        if self._running is None:
            raise Closed(f"service {self.name} is not running")
        return self._running.address

    @property
    def node(self) -> Node:
        """The node as registered. Raises `Closed` where the service does not run."""
        if self._node is None:
            raise Closed(f"service {self.name} is not running")
        return self._node

    @property
    def state(self) -> Any:
        """What the lifespan has yielded, while the service runs; None without one."""
        return self._state

    # What it does

    @overload
    def handler(self, target: Registered, /) -> Registered: ...
    @overload
    def handler(
        self, /, *, name: str = "", internal: bool = False, metadata: Mapping[str, str] | None = None
    ) -> Callable[[Registered], Registered]: ...
    def handler(
        self,
        target: object = None,
        /,
        *,
        name: str = "",
        internal: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> object:
        """Register a class, an instance or a single function; use it as a decorator, with or without options.

        Every public method of a class is an endpoint, ``Class.Method``; a function is one of a type named after the
        service. ``name`` replaces the type's name, ``internal`` keeps all of it out of the registry, and ``metadata``
        goes there. Raises `ConfigError` for what cannot be a handler, for a name that is taken, and while running.
        """

        def register(target: object) -> object:
            self._check_not_entered()
            for handler in self._handlers_in(target, name):
                if handler.name in self._handlers:
                    raise ConfigError(f"endpoint {handler.name!r} is registered twice at service {self.name!r}")
                self._handlers[handler.name] = with_class_options(handler, metadata or {}, internal)
            return target

        return register if target is None else register(target)

    def _handlers_in(self, target: object, name: str) -> list[Handler]:
        if inspect.isclass(target):
            if error := unimplemented(target):
                raise error
            try:
                instance = target()
            except TypeError as error:
                raise ConfigError(
                    f"{target.__name__} cannot be made without arguments ({error}): register an instance, "
                    f"service.handler({target.__name__}(...))"
                ) from error
            return list(handlers_of(instance, name))
        if inspect.isfunction(target) or inspect.ismethod(target):
            return [handler_of(target, name or camel_case(self.name.rpartition(".")[2]))]
        return list(handlers_of(target, name))

    @overload
    def subscriber(self, topic: Topic[Payload], **options: Unpack[SubscriberOptions]) -> Subscribing[Payload]: ...
    @overload
    def subscriber(self, topic: str, **options: Unpack[SubscriberOptions]) -> Callable[[Registered], Registered]: ...
    def subscriber(self, topic: str | Topic[Any], **options: Unpack[SubscriberOptions]) -> object:
        """Register a function for the messages of ``topic``, a text or a `Topic`; used as a decorator.

        Of the subscribers that share a ``queue`` one gets each message; True is the queue of this service's nodes, and
        without one every subscriber gets every message. ``name`` is what the subscription is known by within the
        service; without one it is the function's. See `micro_core.Subscription` for the other options.

        Raises `ConfigError` for what cannot be a subscriber, takes other messages than those of the topic, or has an
        option that there is not; entering the service raises it for what its broker does not offer.
        """

        def register(function: Any) -> Any:
            self._check_not_entered()
            self._subscribers.append(Subscriber.of(function, topic, options))
            return function

        return register

    def _check_not_entered(self) -> None:
        if self._entered:
            raise ConfigError(f"service {self.name!r} is running: register handlers and subscribers before it starts")

    # Its life

    def before_start(self, hook: Hook) -> Hook:
        """Call ``hook`` (plain or async) before anything is opened; a decorator.

        Where a start fails half-way, here or later, the hooks of `after_stop` are called.
        """
        return self._add_hook("before_start", hook)

    def after_start(self, hook: Hook) -> Hook:
        """Call ``hook`` when the service is registered; a decorator. `before_stop` follows where one fails."""
        return self._add_hook("after_start", hook)

    def before_stop(self, hook: Hook) -> Hook:
        """Call ``hook`` while the service is still registered; a decorator. Each is called, whatever others raise."""
        return self._add_hook("before_stop", hook)

    def after_stop(self, hook: Hook) -> Hook:
        """Call ``hook`` when everything is closed; a decorator. Each is called, whatever others raise."""
        return self._add_hook("after_stop", hook)

    def _add_hook(self, moment: str, hook: Hook) -> Hook:
        self._hooks.setdefault(moment, []).append(hook)
        return hook

    async def _call_hooks(self, moment: str) -> None:
        for hook in self._hooks.get(moment, ()):
            await _call(hook)

    async def _call_all_hooks(self, moment: str) -> None:
        """Call each hook, also where one before it fails; the last exception is raised, the others are its context."""
        async with AsyncExitStack() as stack:
            for hook in reversed(self._hooks.get(moment, ())):
                stack.push_async_callback(_call, hook)

    async def __aenter__(self) -> Self:
        if self._entered:
            raise Closed(f"service {self.name} is running already")
        self._entered = True
        try:
            settings, self._settings = self._settings, None
            parts = load_parts(self._given, self._argv, self._plugins, settings)
            self._name = parts.settings.server_name
            self._host = Hosted(self._life(parts), name=f"service {self._name}")
            await self._host.__aenter__()
        except BaseException:
            self._entered = False
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._host is not None:
                await self._host.aclose()
        finally:
            self._entered = False

    @asynccontextmanager
    async def _life(self, parts: Parts) -> AsyncIterator[None]:
        """Start in the order of docs/service.md, and stop in reverse."""
        codecs = CodecSet([*parts.codecs, DebugCodec()])
        self._check_types(codecs)
        subscribers = Subscribers(
            self.name,
            self._subscribers,
            codecs,
            parts.host.middleware("subscriber"),
            parts.guards,
            self._client.forward,
            parts.settings.server_id,
        )
        server = parts.make_server([DebugCodec()])
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._call_all_hooks, "after_stop")
            await self._call_hooks("before_start")
            for lifespan in parts.host.lifespans(self):
                await stack.enter_async_context(lifespan)
            if self._lifespan is not None:
                self._state = await stack.enter_async_context(lifespan_of(self._lifespan, self))
                stack.callback(self._forget_state)
            service_state.set(self._state)  # this task is the service's own, and all others see its variables
            await stack.enter_async_context(parts.opened())
            await stack.enter_async_context(self._client._using(parts))
            serving = server.serve(
                self.name, parts.settings.server_address, self._handlers, subscribers.on_event, parts.settings.limits
            )
            with _setting_told(parts.settings, "server_address"):
                running = await stack.enter_async_context(serving)
            stack.push_async_callback(self._drain, running, parts.settings)
            tasks = await stack.enter_async_context(OwnedTasks())
            for subscription in subscribers.subscriptions():
                await stack.enter_async_context(self._subscribed(parts, subscription, tasks))
            record = self._record(parts, server, running)
            self._running, self._node = running, record.nodes[0]
            self._warn_of_loopback(running, record.nodes[0])
            stack.callback(self._stopped)
            await stack.enter_async_context(self._registered(parts, record, running))
            log.info("%s serves at %s, for %s", self.name, running.address, reach(running.address))
            stack.push_async_callback(self._call_all_hooks, "before_stop")
            await self._call_hooks("after_start")
            yield

    def _check_types(self, codecs: CodecSet) -> None:
        """Raise `ConfigError` for an endpoint whose values no codec takes."""
        payloads = [(f"endpoint {each.name}", each.request_type) for each in self._handlers.values()]
        payloads += [(f"endpoint {each.name}", each.response_type) for each in self._handlers.values()]
        payloads += [(f"subscriber {each.name}", each.message_type) for each in self._subscribers]
        for what, type in payloads:
            try:
                codecs.for_type(type)
            except EncodeError as error:
                raise ConfigError(f"{what} of service {self.name!r}: {error.detail}") from error

    def _forget_state(self) -> None:
        self._state = None

    def _stopped(self) -> None:
        self._running = self._node = None

    async def _drain(self, running: Running, settings: Settings) -> None:
        """Let the calls that are under way finish, and tell those that still come to go elsewhere."""
        patience = settings.drain_timeout
        with anyio.move_on_after(patience) as waiting:
            await running.drain()
            await anyio.sleep(min(settings.linger, FAREWELL_SECONDS))
        if waiting.cancelled_caught:
            log.warning(
                "%s: %d calls were not done after %g s and are cancelled", self.name, running.in_flight, patience
            )

    @asynccontextmanager
    async def _subscribed(self, parts: Parts, subscription: Subscription, tasks: OwnedTasks) -> AsyncIterator[None]:
        """Subscribe now or, where registry or broker are down, as soon as they are back."""
        async with AsyncExitStack() as stack:
            try:
                broker = await parts.broker()
                await stack.enter_async_context(broker.subscribe(subscription))
            except Unavailable as error:
                if isinstance(error, RegistryError) and error.permanent:
                    raise
                log.warning("%s: topic %s is not announced yet: %s", self.name, subscription.topic, error)
                tasks.start_soon(self._subscribe_later, parts, subscription)
            yield

    async def _subscribe_later(self, parts: Parts, subscription: Subscription) -> None:
        pause = min(FIRST_PAUSE, parts.settings.register_interval)
        has_said = False
        while True:
            await anyio.sleep(pause)
            try:
                broker = await parts.broker()
                async with broker.subscribe(subscription):
                    log.info("%s: topic %s is announced", self.name, subscription.topic)
                    await anyio.sleep_forever()
            except Unavailable as error:
                pause = min(pause * 2, parts.settings.register_interval)
                permanent = isinstance(error, RegistryError) and error.permanent
                level = logging.ERROR if permanent and not has_said else logging.DEBUG
                has_said = has_said or permanent
                if permanent:  # waiting does not help, but somebody may mend it
                    pause = parts.settings.register_interval
                log.log(level, "%s: topic %s is not announced: %s", self.name, subscription.topic, error)

    def _record(self, parts: Parts, server: Server, running: Running) -> Record:
        settings = parts.settings
        metadata = {**server.metadata, "registry": parts.registry.name, "broker": settings.broker.name, "micro": "1"}
        node = Node(
            id=f"{self.name}-{settings.server_id or uuid.uuid4().hex[:12]}",
            address=self._address_now(parts, running),
            metadata={**metadata, **settings.server_metadata},
        )
        handlers = sorted(self._handlers.values(), key=lambda handler: handler.name)
        endpoints = [endpoint_of(handler) for handler in handlers if not handler.internal]
        endpoints += [each.endpoint for each in sorted(self._subscribers, key=lambda each: each.topic, reverse=True)]
        return Record(
            name=self.name, version=settings.server_version or "latest", nodes=(node,), endpoints=tuple(endpoints)
        )

    def _address_now(self, parts: Parts, running: Running) -> str:
        settings = parts.settings
        with _setting_told(settings, "server_advertise"):
            return advertised(running.address, settings.server_advertise, parts.registry.address_towards)

    def _warn_of_loopback(self, running: Running, node: Node) -> None:
        if is_loopback(node.address) and not is_loopback(running.address):
            log.warning(
                "%s listens on %s, but is registered as %s, for this machine only: no other interface is up; "
                "it is registered anew when one is",
                self.name,
                running.address,
                node.address,
            )

    @asynccontextmanager
    async def _registered(self, parts: Parts, record: Record, running: Running) -> AsyncIterator[None]:
        """Be in the registry; one that is down holds nothing up."""
        settings = parts.settings
        keeping = Registrar(parts.registry, ttl=settings.register_ttl, interval=settings.register_interval)
        async with keeping as registrar:

            def as_it_is_now() -> Record:
                node = replace(record.nodes[0], address=self._address_now(parts, running))
                self._node = node if self._running is running else self._node
                return replace(record, nodes=(node,))

            await registrar.register(record, as_it_is_now)
            try:
                yield
            finally:
                await registrar.deregister(record)
                await anyio.sleep(settings.linger)

    # Its process

    def run(self, argv: Sequence[str] | None = None, *, backend: str = "asyncio") -> None:
        """Run until SIGTERM or SIGINT, then stop in order; a second signal stops at once.

        Code that does not stop, within linger, drain time and 5 s or within 1 s of a second signal, is ended with the
        process, whose status is then 1.

        With the setting ``workers`` above 1 this process starts the program that many times and supervises it.

        ``argv`` (default: the process's) holds flags (docs/configuration.md). ``backend`` is ``asyncio``, which runs on
        uvloop where that is installed, or ``trio``. Raises SystemExit with one sentence where a setting is wrong.
        """
        from micro_core._process.run import run_process  # what a service in a process of others does not need

        self._argv = tuple(sys.argv[1:] if argv is None else argv)
        run_process(self, lambda: self._running is not None, self._ended, backend, self._read_settings)

    def _read_settings(self) -> Settings:
        self._settings = load_settings(self._given, self._argv)
        return self._settings

    async def _ended(self) -> None:
        if self._host is not None:
            await self._host.wait_ended()


async def _call(hook: Callable[[], Any]) -> None:
    result = hook()
    if isinstance(result, Awaitable):
        await result


@contextmanager
def _setting_told(settings: Settings, name: str) -> Iterator[None]:
    """Say which setting a `ConfigError` is about, and where it was written."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{error.detail} ({name} from {settings.source(name)})") from error
