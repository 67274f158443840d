"""Typed proxies: a handler's class on the caller's side, its methods making calls."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from micro_core._handlers import endpoint_options, handler_of, request_picker
from micro_core.client import ClientStream
from micro_core.errors import MicroError, ProtocolError
from micro_core.server import Handler, HandlerKind

if TYPE_CHECKING:
    from micro_core._client import Client

__all__ = ["make_proxy"]

Handlers = TypeVar("Handlers")


def make_proxy(client: Client, service: str, handler: type[Handlers], options: dict[str, Any]) -> Handlers:
    """Return an object whose public methods are calls of ``service``. Raises `ConfigError` as registering it would."""
    prefix = endpoint_options(handler).name or handler.__name__
    calls = _Calls(client, service, options)
    methods = {
        name: staticmethod(calls.method(handler_of(bound, prefix, function), request_picker(bound)))
        for name, function in inspect.getmembers(handler, inspect.isfunction)
        if not name.startswith("_")
        for bound in (_bound(handler, name, function),)
    }
    proxy: Handlers = type(f"{handler.__name__}Proxy", (), {**methods, "__slots__": ()})()
    return proxy


def _bound(handler: type, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method as an instance has it: read for its signature, never run, so that abstract classes do too."""
    static = isinstance(inspect.getattr_static(handler, name), staticmethod)
    return function if static else MethodType(function, object())


class _Calls:
    """Makes the methods of one proxy."""

    def __init__(self, client: Client, service: str, options: dict[str, Any]) -> None:
        self._client = client
        self._service = service
        self._options = options

    def method(self, handler: Handler, pick: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that calls one endpoint; ``pick`` finds the request among its arguments."""
        make = {
            HandlerKind.UNARY: self._unary,
            HandlerKind.SERVER_STREAM: self._server_stream,
            HandlerKind.CLIENT_STREAM: self._client_stream,
            HandlerKind.BIDIRECTIONAL: self._bidirectional,
        }[handler.kind]
        return make(handler, pick)

    def _unary(self, handler: Handler, pick: Callable[..., Any]) -> Callable[..., Any]:
        options = {"idempotent": True, **self._options} if handler.idempotent else self._options

        async def call(*arguments: Any, **named: Any) -> Any:
            request = pick(*arguments, **named)
            return await self._client.call(self._service, handler.name, request, handler.response_type, **options)

        return call

    def _open(self, handler: Handler) -> Any:
        return self._client.stream(
            self._service, handler.name, handler.response_type, request_type=handler.request_type, **self._options
        )

    def _server_stream(self, handler: Handler, pick: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            request = pick(*arguments, **named)
            async with self._open(handler) as stream:
                await stream.send(request)
                async for reply in stream:
                    yield reply

        return call

    def _client_stream(self, handler: Handler, pick: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> Any:
            async with self._open(handler) as stream:
                sending = _Sending(stream, pick(*arguments, **named))
                self._client.start_soon(sending.run)
                try:
                    return await sending.guard(stream.receive())
                except StopAsyncIteration:
                    raise ProtocolError(f"{handler.name} of {self._service} ended its stream without a reply") from None
                finally:
                    sending.stop()

        return call

    def _bidirectional(self, handler: Handler, pick: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
            async with self._open(handler) as stream:
                sending = _Sending(stream, pick(*arguments, **named))
                self._client.start_soon(sending.run)
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


class _Sending:
    """Sends what an iterator gives, beside whoever receives the answers."""

    def __init__(self, stream: ClientStream[Any], requests: AsyncIterable[Any]) -> None:
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

    async def guard(self, receiving: Any) -> Any:
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
