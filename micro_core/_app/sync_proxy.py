"""Typed proxies for code that is not async: the same contracts, their methods waiting for the reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from micro_core._app.contract import ContractEndpoint, contract_of
from micro_core._app.proxy import Method, Proxy, ended_without_reply
from micro_core.client import Call
from micro_core.server import HandlerKind

__all__ = ["sync_proxy_class"]


class Replies(Protocol):
    """An open stream whose replies are waited for."""

    def __iter__(self) -> Iterator[Any]:
        """Return the replies as they come."""


class WaitingClient(Protocol):
    """The client behind a synchronous proxy."""

    def make_call(self, call: Call) -> Any:
        """Return the reply to ``call``, through the middleware."""

    def open_stream(self, call: Call, requests: Iterable[object] | None = None) -> AbstractContextManager[Replies]:
        """Open the stream of ``call``, through the middleware; leaving the context leaves it."""


def sync_proxy_class(contract: object) -> type[Proxy]:
    """Return the class of synchronous proxies for a contract. Raises `ConfigError` as registering it would."""
    endpoints = contract_of(contract)
    methods = {name: _METHODS[endpoint.kind](endpoint) for name, endpoint in endpoints.items()}
    return type(f"Sync{getattr(contract, '__name__', '')}Proxy", (Proxy,), {**methods, "__slots__": ()})


def _unary(endpoint: ContractEndpoint) -> Method:
    def call(self: Proxy, *arguments: object, **named: object) -> Any:
        client: WaitingClient = self._client
        return client.make_call(self.call_of(endpoint, endpoint.request(*arguments, **named)))

    return call


def _server_stream(endpoint: ContractEndpoint) -> Method:
    def call(self: Proxy, *arguments: object, **named: object) -> Iterator[Any]:
        client: WaitingClient = self._client
        with client.open_stream(self.opening(endpoint), [endpoint.request(*arguments, **named)]) as stream:
            yield from stream

    return call


def _client_stream(endpoint: ContractEndpoint) -> Method:
    def call(self: Proxy, *arguments: object, **named: object) -> Any:
        client: WaitingClient = self._client
        with client.open_stream(self.opening(endpoint), _iterable(endpoint.request(*arguments, **named))) as stream:
            for reply in stream:
                return reply
        raise ended_without_reply(endpoint, self._service)

    return call


def _bidirectional(endpoint: ContractEndpoint) -> Method:
    def call(self: Proxy, *arguments: object, **named: object) -> Iterator[Any]:
        client: WaitingClient = self._client
        with client.open_stream(self.opening(endpoint), _iterable(endpoint.request(*arguments, **named))) as stream:
            yield from stream

    return call


def _iterable(requests: Any) -> Iterator[Any]:
    return iter(requests)


_METHODS: dict[HandlerKind, Callable[[ContractEndpoint], Method]] = {
    HandlerKind.UNARY: _unary,
    HandlerKind.SERVER_STREAM: _server_stream,
    HandlerKind.CLIENT_STREAM: _client_stream,
    HandlerKind.BIDIRECTIONAL: _bidirectional,
}
