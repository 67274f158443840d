"""The parts of one service or client: chosen by settings, made by the plugin host, opened and closed in order."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

import anyio

from micro_core._app.late_broker import LateBroker
from micro_core._app.settings_of_parts import arguments_from, check_clear_text, check_reached
from micro_core._plugins.contracts import CONTRACTS
from micro_core._plugins.host import PluginHost
from micro_core._wire.codec_set import CodecSet
from micro_core.broker import Broker
from micro_core.client import Caller, ClientDefaults
from micro_core.codec import Codec
from micro_core.config import Part, Settings, load, parse_part
from micro_core.errors import RegistryError
from micro_core.message import Metadata
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.server import Server
from micro_core.tasks import Hosted
from micro_core.tls import Tls
from micro_core.transport import Transport

__all__ = ["Parts", "load_parts", "load_settings"]

Made = TypeVar("Made")

log = logging.getLogger("micro.registry")

REGISTRY_SECONDS = 5.0
"""How long a registry may take to open, and to close."""


def load_parts(
    given: Mapping[str, Any],
    argv: Sequence[str] = (),
    plugins: PluginHost | None = None,
    settings: Settings | None = None,
) -> Parts:
    """Return the parts that settings and code ask for, made but not opened; ``settings`` where they are read already.

    ``given`` are the values written in code: configuration strings, and instances, which are final; what is registered
    with ``plugins`` goes before what is installed. Raises `ConfigError` and `PluginError`.
    """
    settings, instances = settings or load_settings(given, argv), instances_in(given)
    host = (plugins or PluginHost()).restricted(allow=settings.plugins_allow, block=settings.plugins_block)
    host.use_extensions(settings.extensions)
    for kind, value in instances.items():
        for one in _each(kind, value):
            if not isinstance(one, str):
                host.check(kind, one)
    return Parts(settings, host, instances, given.get("tls") or settings.tls)


def load_settings(given: Mapping[str, Any], argv: Sequence[str] = ()) -> Settings:
    """Return what settings and code say. Raises `ConfigError`."""
    instances = instances_in(given)
    code = {name: value for name, value in given.items() if name not in instances and name != "tls"}
    return load(code=code, environ=os.environ, argv=argv)


def instances_in(given: Mapping[str, Any]) -> dict[str, object]:
    """Return the parts that code gave as instances, by kind."""
    return {kind: value for kind, value in given.items() if kind in CONTRACTS and _is_instance(kind, value)}


def _is_instance(kind: str, value: object) -> bool:
    """Tell whether a part, or one of several codecs, is given as an object rather than as text."""
    return value is not None and not all(isinstance(one, str) for one in _each(kind, value))


def _each(kind: str, value: object) -> Sequence[Any]:
    return value if kind == "codec" and isinstance(value, list | tuple) else (value,)


class Parts:
    """One object for each kind, opened and closed together; the broker when it is first needed."""

    def __init__(self, settings: Settings, host: PluginHost, instances: Mapping[str, object], tls: Tls) -> None:
        self.settings = settings
        self.host = host
        self._instances = instances
        self.tls = tls
        self.guards = host.guards()
        self._posting_credentials = host.credentials()
        self.credentials = Metadata(self._posting_credentials).to_headers()
        """The headers of every published message that say who published it."""
        self.registry = self._make(Registry, settings.registry)
        self.selector = self._make(Selector, settings.selector)
        self.transport = self._make(Transport, settings.transport)
        self.codecs = self._make_codecs()
        self.codec_set = CodecSet(self.codecs)
        self.late_broker = LateBroker(self._broker_maker())
        self.caller = self._make(
            Caller,
            settings.client,
            registry=self.registry,
            selector=self.selector,
            transport=self.transport,
            codecs=self.codecs,
            middleware=host.middleware("call"),
            defaults=ClientDefaults(
                service=settings.server_name,
                timeout=settings.client_request_timeout,
                retries=settings.client_retries,
                proxy=settings.proxy,
                proxy_address=settings.proxy_address,
                propagate=settings.propagate,
            ),
        )
        check_reached(host, settings, instances)

    def _make(self, contract: Callable[..., Made], part: Part, **made: object) -> Made:
        """Return the part of a kind, given or made; ``contract`` is the kind's, which the host has checked."""
        given = self._instances.get(part.kind)
        if given is None:
            check_clear_text(self.host, part, self.tls)
            given = self.host.make(part, **arguments_from(self.settings, part.kind, self.tls), **made)
        return cast(Made, given)

    def _make_codecs(self) -> tuple[Codec, ...]:
        wanted = self._instances.get("codec", self.settings.codec)
        codecs: list[Codec] = []
        for one in _each("codec", wanted):
            part = parse_part("codec", one, "argument codec=") if isinstance(one, str) else one
            if not isinstance(part, Part):
                codecs.append(part)
            elif not part.optional or self.host.offers("codec", part.name):
                codecs += self.host.make_codecs(part)
        return tuple(codecs)

    def _broker_maker(self) -> Callable[[], Broker]:
        """Return what gives the broker: made now, so that its settings are checked, and opened when it is needed.

        Where nobody chose one and the default is not installed, that is an error for whoever publishes, and no other.
        """
        given = {
            "registry": self.registry,
            "guards": self.guards,
            "credentials": self._posting_credentials,
            "register_ttl": self.settings.register_ttl,
            "register_interval": self.settings.register_interval,
        }

        def make() -> Broker:
            return self._make(Broker, part, **given)

        part = self.settings.broker
        if part.source == "default" and not self.host.offers("broker", part.name):
            return make
        broker = make()
        return lambda: broker

    def make_server(self, codecs: Sequence[Codec]) -> Server:
        """Return the server; ``codecs`` come after the configured ones."""
        return self._make(
            Server,
            self.settings.server,
            transport=self.transport,
            codecs=(*self.codecs, *codecs),
            middleware=self.host.middleware("handler"),
            guards=self.guards,
        )

    async def broker(self) -> Broker:
        """Return the broker, which is made and opened by the first who needs it. Raises as `PluginHost.make`."""
        return await self.late_broker.get()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open everything, and close it in reverse order."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(_bounded(self.registry))
            await stack.enter_async_context(self.transport)
            await stack.enter_async_context(self.late_broker)
            await stack.enter_async_context(self.caller)
            yield


@asynccontextmanager
async def _bounded(registry: Registry) -> AsyncIterator[None]:
    """Open a registry and close it, each within some seconds, whatever its server does. Raises `RegistryError`."""
    hosted = Hosted(registry, name=f"registry {registry.name}")
    with anyio.move_on_after(REGISTRY_SECONDS) as opening:
        await hosted.__aenter__()
    if opening.cancelled_caught:
        raise RegistryError(
            f"registry {registry.name} was not opened within {REGISTRY_SECONDS:.0f} s; one opens without its server, "
            "so this is a fault of the plugin's"
        )
    try:
        yield
    finally:
        with anyio.move_on_after(REGISTRY_SECONDS, shield=True) as closing:
            await hosted.aclose()
        if closing.cancelled_caught:
            log.warning("registry %s was not closed within %.0f s: it is left", registry.name, REGISTRY_SECONDS)
