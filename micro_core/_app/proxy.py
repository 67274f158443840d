"""Typed proxies: a handler's class on the caller's side, its methods making calls."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar, Unpack

import anyio
from msgspec.structs import replace

from micro_core._app.contract import ContractEndpoint, contract_of
from micro_core.client import DEFAULT_OPTIONS, Call, CallOptions, CallOptionsDict, ClientStream, call_options
from micro_core.errors import ConfigError, MicroError, ProtocolError
from micro_core.server import HandlerKind

__all__ = ["Proxy", "proxy_class", "with_options"]

Contract = TypeVar("Contract")
Received = TypeVar("Received")

Method = Callable[..., Any]
"""A method of a proxy: takes what the contract's method takes."""


class Calling(Protocol):
    """The client behind a proxy."""

    def make_call(self, call: Call) -> Awaitable[Any]:
        """Return the reply to ``call``, through the middleware."""

    def open_stream(self, call: Call) -> AbstractAsyncContextManager[ClientStream[Any]]:
        """Open the stream of ``call``, through the middleware; leaving the context leaves it."""

    def start_soon(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run an async function as long as the client is open."""


class Proxy:
    """What every proxy holds; the methods are those of its subclass for one contract."""

    __slots__ = ("_chosen", "_client", "_given", "_options", "_service")

    def __init__(self, client: Any, service: str, options: CallOptionsDict) -> None:
        self._client = client
        self._service = service
        self._given = options
        self._options = call_options(options) if options else DEFAULT_OPTIONS
        self._chosen: dict[str, CallOptions] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._service!r}>"

    def options_for(self, endpoint: ContractEndpoint) -> CallOptions:
        """Return the options of a call: the proxy's, with what the contract says of the endpoint."""
        chosen = self._chosen.get(endpoint.name)
        if chosen is None:
            chosen = self._options
            if endpoint.idempotent and chosen.idempotent is None:
                chosen = replace(chosen, idempotent=True)
            if endpoint.errors:
                chosen = replace(chosen, errors=(*chosen.errors, *endpoint.errors))
            self._chosen[endpoint.name] = chosen
        return chosen

    def call_of(self, endpoint: ContractEndpoint, request: object) -> Call:
        return Call(self._service, endpoint.name, request, endpoint.response_type, self.options_for(endpoint))

    def opening(self, endpoint: ContractEndpoint) -> Call:
        call = Call(
            self._service, endpoint.name, None, endpoint.response_type, self.options_for(endpoint), streaming=True
        )
        call.request_type = endpoint.request_type
        return call


def with_options(proxy: Contract, /, **options: Unpack[CallOptionsDict]) -> Contract:
    """Give the calls of a proxy further options, for one of them or for all that follow.

    ``await with_options(greeter, timeout=1).hello(name)`` makes a second proxy, which costs about a microsecond.
    Raises `ConfigError` for an option that there is not, or where ``proxy`` is no proxy, and `BadRequest` for a value
    that cannot be meant.
    """
    if not isinstance(proxy, Proxy):
        raise ConfigError(
            f"with_options takes what client.proxy returned, not an object of type {type(proxy).__name__}"
        )
    given: CallOptionsDict = {**proxy._given, **options}
    return type(proxy)(proxy._client, proxy._service, given)


def proxy_class(contract: object) -> type[Proxy]:
    """Return the class of proxies for a contract. Raises `ConfigError` as registering the contract would."""
    endpoints = contract_of(contract)
    methods = {name: _METHODS[endpoint.kind](endpoint) for name, endpoint in endpoints.items()}
    return type(f"{getattr(contract, '__name__', '')}Proxy", (Proxy,), {**methods, "__slots__": ()})


def _unary(endpoint: ContractEndpoint) -> Method:
    async def call(self: Proxy, *arguments: object, **named: object) -> Any:
        client: Calling = self._client
        return await client.make_call(self.call_of(endpoint, endpoint.request(*arguments, **named)))

    return call


def _server_stream(endpoint: ContractEndpoint) -> Method:
    async def call(self: Proxy, *arguments: object, **named: object) -> AsyncIterator[Any]:
        client: Calling = self._client
        request = endpoint.request(*arguments, **named)
        async with client.open_stream(self.opening(endpoint)) as stream:
            await stream.send(request)
            async for reply in stream:
                yield reply

    return call


def _client_stream(endpoint: ContractEndpoint) -> Method:
    async def call(self: Proxy, *arguments: object, **named: object) -> Any:
        client: Calling = self._client
        async with client.open_stream(self.opening(endpoint)) as stream:
            sending = _Sending(stream, endpoint.request(*arguments, **named))
            client.start_soon(sending.run)
            try:
                return await sending.guard(stream.receive())
            except StopAsyncIteration:
                raise ended_without_reply(endpoint, self._service) from None
            finally:
                sending.stop()

    return call


def _bidirectional(endpoint: ContractEndpoint) -> Method:
    async def call(self: Proxy, *arguments: object, **named: object) -> AsyncIterator[Any]:
        client: Calling = self._client
        async with client.open_stream(self.opening(endpoint)) as stream:
            sending = _Sending(stream, endpoint.request(*arguments, **named))
            client.start_soon(sending.run)
            try:
                while True:
                    try:
                        reply = await sending.guard(stream.receive())
                    except StopAsyncIteration:
                        return
                    yield reply
            finally:
                sending.stop()

    return call


_METHODS: dict[HandlerKind, Callable[[ContractEndpoint], Method]] = {
    HandlerKind.UNARY: _unary,
    HandlerKind.SERVER_STREAM: _server_stream,
    HandlerKind.CLIENT_STREAM: _client_stream,
    HandlerKind.BIDIRECTIONAL: _bidirectional,
}


def ended_without_reply(endpoint: ContractEndpoint, service: str) -> ProtocolError:
    """Return the error of a stream that should have given one reply."""
    return ProtocolError(f"{endpoint.name} of {service} ended its stream without a reply")


class _Sending:
    """Sends the items of an iterator while another task receives the answers."""

    def __init__(self, stream: ClientStream[Any], requests: AsyncIterable[object]) -> None:
        self._stream = stream
        self._requests = requests
        self._scope = anyio.CancelScope()
        self._error: BaseException | None = None

    async def run(self) -> None:
        with self._scope:
            try:
                async for request in self._requests:
                    await self._stream.send(request)
                await self._stream.close_send()
            except MicroError:
                return  # the stream has ended; whoever receives learns why
            except Exception as error:
                self._error = error
                await self._stream.aclose()

    async def guard(self, receiving: Awaitable[Received]) -> Received:
        """Return what is received, or raise the error of the iterator that broke the stream."""
        try:
            return await receiving
        except MicroError as error:
            if self._error is not None:
                raise self._error from error
            raise

    def stop(self) -> None:
        """Send no more."""
        self._scope.cancel()
