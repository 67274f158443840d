"""Lifespans: contexts that are open while a service runs, and the view that they have of it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

from micro_core.errors import ConfigError
from micro_core.registry import Node

__all__ = ["ServiceLife", "lifespan_of"]


class ServiceLife(Protocol):
    """A service, as the hook ``lifespan`` of an extension gets it: before anything of it is open."""

    @property
    def name(self) -> str:
        """The service's name."""

    @property
    def address(self) -> str:
        """The address bound, ``host:port``. Raises `Closed` where the service does not run."""

    @property
    def node(self) -> Node:
        """The node as registered. Raises `Closed` where the service does not run."""

    @property
    def client(self) -> Any:
        """The service's `Client`, for use while it runs."""


def lifespan_of(function: Any, service: ServiceLife) -> AbstractAsyncContextManager[object]:
    """Return the context that a program's lifespan function makes for ``service``. Raises `ConfigError` for none."""
    context = function(service)
    if isinstance(context, AbstractAsyncContextManager):
        return cast(AbstractAsyncContextManager[object], context)
    if hasattr(context, "close"):  # a coroutine that nobody awaits would complain
        context.close()
    raise ConfigError(
        f"lifespan of service {service.name!r} returned an object of type {type(context).__name__}, which is no async "
        "context manager: put @asynccontextmanager above the function, and yield once in it"
    )
