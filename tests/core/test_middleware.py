"""Extensions: middleware round calls, attempts, handlers and subscribers, in the order of their names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from micro_core import Attempt, Call, ConnectionLost, Context, Executed, PluginHost, Service, hookimpl, idempotent
from micro_core.testing import MemoryNetwork

pytestmark = pytest.mark.anyio


@dataclass
class Name:
    text: str


class Greeter:
    @idempotent
    async def hello(self, request: Name) -> str:
        return f"Hello {request.text}"

    async def welcome(self, request: Name) -> str:
        return f"Welcome {request.text}"

    async def repeat(self, request: Name) -> AsyncIterator[str]:
        yield f"Hello {request.text}"


def extension(name: str, seen: list[str]) -> SimpleNamespace:
    """Return an extension that notes what passes through it."""

    def noting(what: str) -> Callable[..., Any]:
        async def around_call(call: Call | Attempt, call_next: Any) -> Any:
            seen.append(f"{name} {what}")
            return await call_next(call)

        async def around_handler(context: Context, request: Any, call_next: Any) -> Any:
            seen.append(f"{name} {what}")
            return await call_next(context, request)

        return around_call if what in ("client", "call") else around_handler

    @hookimpl
    def client_middleware() -> Any:
        return noting("client")

    @hookimpl
    def call_middleware() -> Any:
        return noting("call")

    @hookimpl
    def handler_middleware() -> Any:
        return noting("handler")

    @hookimpl
    def subscriber_middleware() -> Any:
        return noting("subscriber")

    @hookimpl
    def lifespan(service: Service) -> Any:
        @asynccontextmanager
        async def life() -> AsyncIterator[None]:
            seen.append(f"{name} enters {service.name}")
            yield
            seen.append(f"{name} leaves {service.name}")

        return life()

    return SimpleNamespace(
        client_middleware=client_middleware,
        call_middleware=call_middleware,
        handler_middleware=handler_middleware,
        subscriber_middleware=subscriber_middleware,
        lifespan=lifespan,
    )


@asynccontextmanager
async def greeter(**extensions: Any) -> AsyncIterator[Service]:
    """Run a greeter with extensions, on a network of its own."""
    host = PluginHost()
    for name, plugin in extensions.items():
        host.register("extension", name, plugin)
    with MemoryNetwork().current():
        service = Service(
            "greeter",
            registry="memory",
            transport="memory",
            broker="memory",
            extensions=",".join(extensions),
            plugins=host,
            linger=0,
        )
        service.handler(Greeter)

        @service.subscriber("names")
        async def on_name(message: Name) -> None:
            return None

        async with service:
            yield service


async def test_the_first_named_extension_is_the_outermost_of_each_kind() -> None:
    seen: list[str] = []
    async with greeter(outer=extension("outer", seen), inner=extension("inner", seen)) as service:
        assert await service.client.call("greeter", "Greeter.Hello", Name("Ada"), str) == "Hello Ada"
        around = ["client", "call", "handler"]
        assert seen[2:] == [f"{name} {what}" for what in around for name in ("outer", "inner")]
        del seen[:]
        await service.client.publish("names", Name("Ada"), confirm=True)
        assert seen == ["outer subscriber", "inner subscriber"]
        del seen[:]
    assert seen == ["inner leaves greeter", "outer leaves greeter"]


async def test_middleware_covers_streams_too() -> None:
    seen: list[str] = []
    async with greeter(one=extension("one", seen)) as service:
        proxy = service.client.proxy("greeter", Greeter)
        assert [reply async for reply in proxy.repeat(Name("Ada"))] == ["Hello Ada"]
    assert seen[1:-1] == ["one client", "one call", "one handler"]


async def test_only_what_is_idempotent_is_tried_again_through_a_proxy() -> None:
    attempts: list[str] = []

    async def lose_the_first(attempt: Attempt, attempt_next: Any) -> Any:
        endpoint = attempt.call.endpoint
        attempts.append(endpoint)
        if attempts.count(endpoint) == 1:
            raise ConnectionLost("cut by the test", executed=Executed.MAYBE)
        return await attempt_next(attempt)

    @hookimpl
    def call_middleware() -> Any:
        return lose_the_first

    async with greeter(cutting=SimpleNamespace(call_middleware=call_middleware)) as service:
        proxy = service.client.proxy("greeter", Greeter)
        assert await proxy.hello(Name("Ada")) == "Hello Ada"
        with pytest.raises(ConnectionLost) as lost:
            await proxy.welcome(Name("Ada"))
    assert lost.value.executed == "maybe"
    assert attempts == ["Greeter.Hello", "Greeter.Hello", "Greeter.Welcome"]
