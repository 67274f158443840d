"""The client that applications hold: calls, streams and publishing by name."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import copy_context
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeVar, Unpack, overload
from weakref import WeakKeyDictionary

import anyio

from micro_core._app.assembly import Parts, load_parts
from micro_core._app.proxy import Proxy, proxy_class
from micro_core._plugins.host import PluginHost
from micro_core.broker import Broker, Capability, Confirm, Publication, PublishOptions, PublishStats
from micro_core.client import DEFAULT_OPTIONS, Call, Caller, CallOptionsDict, ClientStream, call_options
from micro_core.codec import Codec
from micro_core.context import current_context, propagated
from micro_core.errors import Closed, PublishError
from micro_core.message import Headers, Message, Topic, canonical
from micro_core.middleware import CallNext, PublishNext, fold
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.tasks import Hosted, OwnedTasks
from micro_core.tls import Tls
from micro_core.transport import Transport

__all__ = ["Client"]

_SECRETS = frozenset((b"Authorization", b"Proxy-Authorization", b"Cookie"))
"""Headers that prove who published a message."""

Response = TypeVar("Response")
Contract = TypeVar("Contract")
Payload = TypeVar("Payload")


class Client:
    """Calls services, opens streams, publishes. An async context manager; see docs/client.md.

    Each part is a configuration string or an instance, which the client then opens and closes; what is not given comes
    from flags, environment, file or default (docs/configuration.md). ``tls`` stands in for the settings of that name.
    It may be entered in one task and left in another. ``name`` goes out as ``Micro-From-Service``;
    ``plugins`` has plugins registered in code.

    Entering raises `ConfigError` and `PluginError`.
    """

    def __init__(
        self,
        name: str = "",
        *,
        registry: str | Registry | None = None,
        selector: str | Selector | None = None,
        transport: str | Transport | None = None,
        codec: str | Codec | Sequence[str | Codec] | None = None,
        broker: str | Broker | None = None,
        client: str | Caller | None = None,
        tls: Tls | None = None,
        extensions: str | Sequence[str] | None = None,
        plugins: PluginHost | None = None,
        argv: tuple[str, ...] = (),
    ) -> None:
        self._given: Mapping[str, Any] = {
            "server_name": name or None,
            "registry": registry,
            "selector": selector,
            "transport": transport,
            "codec": codec,
            "broker": broker,
            "client": client,
            "tls": tls,
            "extensions": extensions,
        }
        self._plugins = plugins
        self._argv = argv
        self._parts: Parts | None = None
        self._caller: Caller | None = None
        self._call: CallNext = _not_open
        self._open: CallNext = _not_open
        self._publish: PublishNext = self._send
        self._tasks: OwnedTasks | None = None
        self._host: Hosted[None] | None = None
        self._proxies: MutableMapping[object, type[Proxy]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Client {'open' if self._caller is not None else 'closed'}, {self._caller!r}>"

    async def __aenter__(self) -> Self:
        if self._caller is not None:
            raise Closed("the client is open already; one `async with` opens it once")
        parts = load_parts(self._given, self._argv, self._plugins)
        self._host = Hosted(self._open_with(parts), name="the client")
        await self._host.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._host is not None:
            await self._host.aclose()

    @asynccontextmanager
    async def _open_with(self, parts: Parts) -> AsyncIterator[None]:
        async with parts.opened(), self._using(parts):
            yield

    @asynccontextmanager
    async def _using(self, parts: Parts) -> AsyncIterator[None]:
        """Make calls with ``parts``, which are open, until the context is left."""
        async with OwnedTasks() as self._tasks:
            self._parts, self._caller = parts, parts.caller
            middleware = parts.host.middleware("client")
            self._call, self._open = fold(parts.caller.call, middleware), fold(parts.caller.open, middleware)
            self._publish = fold(self._send, parts.host.middleware("publish"))
            try:
                yield
            finally:
                self._caller, self._call, self._open = None, _not_open, _not_open

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, object]], *arguments: object) -> None:
        """Run an async function in the background until the client is left. Raises `Closed`."""
        self._open_parts()
        assert self._tasks is not None
        self._tasks.start_soon(function, *arguments, context=copy_context())

    @overload
    async def call(
        self,
        service: str,
        endpoint: str,
        request: object,
        response_type: type[Response],
        **options: Unpack[CallOptionsDict],
    ) -> Response: ...
    @overload
    async def call(
        self, service: str, endpoint: str, request: object, response_type: Any = Any, **options: Unpack[CallOptionsDict]
    ) -> Any: ...
    async def call(
        self, service: str, endpoint: str, request: object, response_type: Any = Any, **options: Unpack[CallOptionsDict]
    ) -> Any:
        """Return the reply of an endpoint, as ``response_type``.

        ``options`` are the fields of `CallOptions`: ``timeout``, ``retries``, ``idempotent``, ``metadata``, …
        Raises the error that the handler raised: of its class where ``errors`` has it, else of its code's; or what
        docs/errors.md lists for calls, `ConfigError` for an option that there is not.
        """
        chosen = call_options(options) if options else DEFAULT_OPTIONS
        return await self._call(Call(service, endpoint, request, response_type, chosen))

    @overload
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: type[Response],
        *,
        request_type: object = None,
        **options: Unpack[CallOptionsDict],
    ) -> AbstractAsyncContextManager[ClientStream[Response]]: ...
    @overload
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: Any = Any,
        *,
        request_type: object = None,
        **options: Unpack[CallOptionsDict],
    ) -> AbstractAsyncContextManager[ClientStream[Any]]: ...
    def stream(
        self,
        service: str,
        endpoint: str,
        response_type: Any = Any,
        *,
        request_type: object = None,
        **options: Unpack[CallOptionsDict],
    ) -> AbstractAsyncContextManager[ClientStream[Any]]:
        """Open a stream of any kind with both directions in hand; leaving the context leaves the stream.

        ``request_type`` decides the content type where it is not the one of ``response_type``; options as in `call`.
        """
        chosen = call_options(options) if options else DEFAULT_OPTIONS
        call = Call(service, endpoint, None, response_type, chosen, streaming=True)
        if request_type is not None:
            call.request_type = request_type
        return self.open_stream(call)

    def make_call(self, call: Call) -> Awaitable[Any]:
        """Return the reply to ``call``, through the middleware."""
        return self._call(call)

    @asynccontextmanager
    async def open_stream(self, call: Call) -> AsyncIterator[ClientStream[Any]]:
        """Open the stream of ``call``, through the middleware; leaving the context leaves it."""
        stream: ClientStream[Any] = await self._open(call)
        try:
            yield stream
        finally:
            await stream.aclose()

    def proxy(self, service: str, contract: Callable[..., Contract], **options: Unpack[CallOptionsDict]) -> Contract:
        """Return an object with the methods of ``contract``, a handler's class, each of which calls ``service``.

        The class may be the handler itself, an ABC or a Protocol; editors and type checkers see its own signatures.
        ``options`` as in `call`, for all calls of the proxy; `micro_core.with_options` has some for one call alone.
        Methods declared idempotent are retried as such, whatever the registry says. A class is read once, so that a
        further proxy costs nothing. Raises `ConfigError` for methods that cannot be endpoints.
        """
        try:
            kind = self._proxies[contract]
        except (KeyError, TypeError):  # the first of its class, or of no class
            kind = self._proxies[contract] = proxy_class(contract)
        return kind(self, service, options)  # type: ignore[return-value]  # it has the contract's methods

    @overload
    async def publish(
        self,
        topic: Topic[Payload],
        message: Payload,
        **options: Unpack[PublishOptions],
    ) -> None: ...
    @overload
    async def publish(
        self,
        topic: str,
        message: object,
        **options: Unpack[PublishOptions],
    ) -> None: ...
    async def publish(
        self,
        topic: str | Topic[Any],
        message: object,
        *,
        metadata: Mapping[str, str] | None = None,
        confirm: Confirm | bool = "kept",
        key: str = "",
        delay: float = 0.0,
        options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Publish to every subscriber of ``topic``, and return when the message is as far as ``confirm`` says.

        That is ``kept`` in this process's outbox; ``stored``, so that it survives this process; or ``handled`` by every
        subscriber; True is the strongest that the broker offers. Messages of one ``key`` keep their order, ``delay`` is
        the seconds until delivery, and ``options`` are what the broker alone understands.

        ``topic`` is a text, or a `Topic`, whose messages type checkers know. Raises `ConfigError` for
        what the broker does not offer; `PublishError` where there is nobody to keep it for, or naming who has not
        handled it.
        """
        parts = self._open_parts()
        if isinstance(topic, Topic):
            topic = topic.name
        if not isinstance(topic, str):
            raise PublishError(f"topic {topic!r} is no text, but of type {type(topic).__name__}")
        codec = parts.codec_set.for_type(type(message))
        headers: Headers = _carried_on(parts.settings.propagate)
        headers |= {canonical(name).encode(): value.encode() for name, value in (metadata or {}).items()}
        headers |= {
            b"Content-Type": codec.content_type.encode(),
            b"Micro-Topic": topic.encode(),
            b"Micro-Id": _new_id(),
        }
        if parts.settings.server_name:
            headers.setdefault(b"Micro-From-Service", parts.settings.server_name.encode())
        broker = await parts.broker()
        await self._publish(
            Publication(
                topic=topic,
                message=Message({**parts.credentials, **headers}, codec.encode(message)),
                confirm=broker.strength(confirm),
                key=key,
                delay=delay,
                options=options,
            )
        )

    async def forward(self, topic: str, message: Message) -> None:
        """Publish an encoded message as our own: with our credentials in place of its publisher's."""
        parts = self._open_parts()
        kept = {name: value for name, value in message.headers.items() if name not in _SECRETS}
        broker = await parts.broker()
        confirm: Confirm = "stored" if Capability.STORED in broker.offers else "kept"
        message = Message({**parts.credentials, **kept}, message.body)
        await self._publish(Publication(topic=topic, message=message, confirm=confirm))

    async def _send(self, publication: Publication) -> None:
        broker = await self._open_parts().broker()
        broker.check(publication)
        await broker.send(publication)

    async def flush(self, timeout: float = 25.0) -> int:
        """Wait until every published message was taken, ``timeout`` seconds at most; return how many are left."""
        broker = self._open_parts().late_broker.opened
        if broker is None:
            return 0
        with anyio.move_on_after(timeout):
            return await broker.flush()
        return broker.stats().waiting

    def publish_stats(self) -> PublishStats:
        """Return how many messages wait to be taken, and how many were given up."""
        broker = self._open_parts().late_broker.opened
        return PublishStats(waiting=0, dropped=0) if broker is None else broker.stats()

    def _open_parts(self) -> Parts:
        if self._parts is None or self._caller is None:
            raise Closed("the client is not open: use it in `async with`, or start its service")
        return self._parts


async def _not_open(call: Call) -> Any:
    raise Closed("the client is not open: use it in `async with`, or start its service")


def _new_id() -> bytes:
    """Return a random UUID as text: as `uuid.uuid4` does in a third of its time, from a source that may be guessed."""
    digits = b"%032x" % random.getrandbits(128)
    return b"%b-%b-4%b-a%b-%b" % (digits[:8], digits[8:12], digits[13:16], digits[17:20], digits[20:])


def _carried_on(propagate: tuple[str, ...]) -> Headers:
    """Return the headers that a message published by a handler carries on from the handler's request."""
    context = current_context()
    if context is None:
        return {}
    carried = {name: context.headers[name] for name in propagated(propagate) if name in context.headers}
    return carried | (context.propagated or {})
