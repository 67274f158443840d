"""For tests: a world in memory where services meet, with no port and no thread, and parts made by hand."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from micro_core.builtin.memory.broker import MemoryBroker
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.memory.transport import MemoryTransport

if TYPE_CHECKING:
    from micro_core._app.client import Client
    from micro_core.service import Service

__all__ = ["MemoryNetwork", "World", "make_part", "world"]


class World:
    """Makes services and clients that meet each other and nobody else, whatever the environment says."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()

    def service(self, name: str, **settings: object) -> Service:
        """Return a service of this world, not entered yet; ``settings`` are those of `micro_core.Service`."""
        from micro_core.service import Service

        return Service(name, **{**self._parts(), **settings})

    def client(self, name: str = "", **settings: object) -> Client:
        """Return a client of this world, not entered yet; ``settings`` are those of `micro_core.Client`."""
        from micro_core._app.client import Client

        return Client(name, **{**self._parts(), **settings})

    def _parts(self) -> dict[str, Any]:
        return {
            "registry": MemoryRegistry(network=self.network),
            "transport": MemoryTransport(network=self.network),
            "broker": MemoryBroker(network=self.network),
        }

    def __repr__(self) -> str:
        return f"<World {self.network!r}>"


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Run any number of services in one process, on the memory parts.

    ::

        async with world() as w, w.service("greeter") as greeter, w.client() as client: ...

    What is made with configuration strings inside (``registry="memory"``) belongs to this world too.
    """
    here = World()
    with here.network.current():
        yield here


def make_part(
    kind: str, plugin: str | Callable[..., Any] | object, options: Mapping[str, Any] | None = None, **parts: object
) -> Any:
    """Return a part, made as a service makes it.

    ``plugin`` is a configuration string without its options (``mdns``, ``etcd://127.0.0.1:2379``), a class or function
    that ``options`` are given to as arguments, or a part that is ready. ``parts`` are what the hook of this kind takes
    beside: ``registry`` for a broker, and so on; settings are the default ones. Raises `ConfigError` and `PluginError`.
    """
    if not isinstance(plugin, str):
        return _called(plugin, options or {}, parts) if callable(plugin) else plugin
    from micro_core._plugins.host import PluginHost
    from micro_core.config import parse_part

    query = "&".join(f"{quote(name, safe='')}={quote(str(value), safe='')}" for name, value in (options or {}).items())
    text = f"{plugin}{'' if '://' in plugin or not query else '://'}{'?' if query else ''}{query}"
    return PluginHost().make(parse_part(kind, text, "make_part"), **parts)


def _called(make: Callable[..., Any], options: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
    """Call with all options, and with those parts that ``make`` has a parameter for, as hooks do."""
    wanted = inspect.signature(make).parameters
    return make(**options, **{name: part for name, part in parts.items() if name in wanted})
