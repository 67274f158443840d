"""The hooks: every place where a plugin can take part. Hooks wire up, objects run (docs/plugins.md).

A hook is called synchronously while a service or client is being put together, never for a request. An implementation
declares only the arguments that it uses; a configuration with addresses, a path or options that the selected
implementation does not declare is refused. The ``make_…`` hooks are called on the selected plugin alone; wrappers that
extensions put round them (``@hookimpl(wrapper=True)``) apply to whatever is selected.

Arguments that the ``make_…`` hooks share:

- ``name``: the entry point's name, as selected;
- ``address``: the addresses of the configuration string, a tuple of texts, empty where none is given;
- ``path``: its path without the leading slash's host part (``/etc/nodes.toml``), or an empty text;
- ``options``: its query parameters, a mapping of texts; `micro_core.build` fits them to a constructor;
- the parts that were made before: registry, then selector, transport, codecs, broker, client, server.
"""

# mypy: disable-error-code="empty-body"
from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import pluggy

from micro_core.broker import Broker
from micro_core.client import Caller, ClientDefaults
from micro_core.codec import Codec
from micro_core.lifespan import ServiceLife
from micro_core.middleware import (
    CallMiddleware,
    ClientMiddleware,
    Guard,
    HandlerMiddleware,
    PublishMiddleware,
    SubscriberMiddleware,
)
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.server import Server
from micro_core.tls import Tls
from micro_core.transport import Transport

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "micro"
"""pluggy's project name: an implementation is marked by a `hookimpl` of this project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def make_registry(name: str, address: Sequence[str], path: str, options: Mapping[str, str], tls: Tls) -> Registry:
    """Return a registry; ``tls`` is what it presents to its server and whom it trusts, as of a transport.

    One that has a server takes ``tls``, and speaks clear text only where `Tls.check_clear_text` lets it.
    """


@hookspec(firstresult=True)
def make_selector(name: str, address: Sequence[str], path: str, options: Mapping[str, str]) -> Selector:
    """Return a selector."""


@hookspec(firstresult=True)
def make_transport(
    name: str, address: Sequence[str], path: str, options: Mapping[str, str], pool_size: int, pool_ttl: float, tls: Tls
) -> Transport:
    """Return a transport; it keeps at most ``pool_size`` idle connections to a node, each for ``pool_ttl`` seconds.

    ``tls`` is what it presents and whom it trusts; options ``tls_…`` go over it (`Tls.overlaid`).
    """


@hookspec(firstresult=True)
def make_codec(name: str, address: Sequence[str], path: str, options: Mapping[str, str]) -> Codec | Sequence[Codec]:
    """Return one codec, or several that belong together."""


@hookspec(firstresult=True)
def make_broker(
    name: str,
    address: Sequence[str],
    path: str,
    options: Mapping[str, str],
    registry: Registry,
    tls: Tls,
    guards: Sequence[Guard],
    credentials: Mapping[str, str],
    register_ttl: float,
    register_interval: float,
) -> Broker:
    """Return a broker; ``registry`` is where it may announce and find subscribers, ``tls`` as of a transport.

    What it announces there holds for ``register_ttl`` seconds and is renewed every ``register_interval``, as the
    service's own record is: `micro_core.registrar.Registrar` does that.
    The core asks the guards about every message, and adds credentials to each that is published, whatever the broker.
    One that listens may ask ``guards`` before it reads what is posted, with the headers of the post, to which its own
    kind adds ``credentials``; any other takes neither.
    """


@hookspec(firstresult=True)
def make_client(
    name: str,
    address: Sequence[str],
    path: str,
    options: Mapping[str, str],
    registry: Registry,
    selector: Selector,
    transport: Transport,
    codecs: Sequence[Codec],
    middleware: Sequence[CallMiddleware],
    defaults: ClientDefaults,
) -> Caller:
    """Return what makes calls; it puts ``middleware``, outermost first, round every attempt."""


@hookspec(firstresult=True)
def make_server(
    name: str,
    address: Sequence[str],
    path: str,
    options: Mapping[str, str],
    transport: Transport,
    codecs: Sequence[Codec],
    middleware: Sequence[HandlerMiddleware],
    guards: Sequence[Guard],
) -> Server:
    """Return what answers calls; it puts ``middleware``, outermost first, round every handler.

    Each of ``guards`` is asked before a request's body is decoded.
    """


@hookspec(firstresult=True)
def make_extension(name: str, address: Sequence[str], path: str, options: Mapping[str, str]) -> object:
    """Return the extension: an object that has the hooks below as methods, each marked with `hookimpl`.

    Called once for each service or client, for extensions that take configuration; any other is a module that has those
    hooks itself.
    """


@hookspec
def client_middleware() -> ClientMiddleware | None:
    """Return what is put round every call and every opening of a stream, its retries included."""


@hookspec
def call_middleware() -> CallMiddleware | None:
    """Return what is put round every `Attempt` of a call; its node is chosen by then."""


@hookspec
def handler_middleware() -> HandlerMiddleware | None:
    """Return what is put round every handler."""


@hookspec
def subscriber_middleware() -> SubscriberMiddleware | None:
    """Return what is put round every subscriber."""


@hookspec
def publish_middleware() -> PublishMiddleware | None:
    """Return what is put round every publishing of a message."""


@hookspec
def guard() -> Guard | None:
    """Return what looks at every request and every message, whatever transport and broker, before it is decoded."""


@hookspec
def credentials() -> Mapping[str, str] | None:
    """Return headers that tell subscribers who published a message."""


@hookspec
def lifespan(service: ServiceLife) -> AbstractAsyncContextManager[object] | None:
    """Return a context that is entered before the service listens, and left after it has stopped."""
