"""Lifespans and hooks of a service: what they see, in which order, and what is undone where a start fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from micro_core import ConfigError, Context, Service, current_context
from micro_core.testing import World, world

pytestmark = pytest.mark.anyio


class Pool:
    """Stands for what an application opens; it holds a task group, as such things do."""

    def __init__(self, happened: list[str]) -> None:
        self._happened = happened
        self.is_open = False

    @asynccontextmanager
    async def open(self, service: Service) -> AsyncIterator[Pool]:
        self._happened.append(f"opened for {service.name}")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            self.is_open = True
            try:
                yield self
            finally:
                tasks.cancel_scope.cancel()
                self.is_open = False
                self._happened.append("closed")


def greeter(here: World, **settings: Any) -> Service:
    service = here.service("greeter", linger=0, **settings)

    @service.handler
    class Greeter:
        async def pool(self, text: str, context: Context) -> bool:
            return isinstance(context.state, Pool) and context.state.is_open

        async def pools(self, text: str) -> AsyncIterator[bool]:
            context = current_context()
            assert context is not None
            for _ in range(2):
                yield context.state.is_open

        async def nested(self, text: str) -> bool:
            reply: bool = await service.client.call("greeter", "Greeter.Pool", text)
            return reply

    return service


async def test_what_a_lifespan_yields_is_the_state_of_handlers_and_subscribers() -> None:
    happened: list[str] = []
    seen: list[Any] = []
    pool = Pool(happened)
    async with world() as here:
        service = greeter(here, lifespan=pool.open)
        service.before_start(lambda: happened.append("before_start"))
        service.after_start(lambda: happened.append(f"after_start {service.state is pool}"))
        service.after_stop(lambda: happened.append(f"after_stop {service.state}"))

        @service.subscriber("news")
        async def on_news(text: str, context: Context) -> None:
            seen.append(context.state)

        async with service, here.client() as client:
            assert await client.call("greeter", "Greeter.Pool", "x") is True
            assert await client.call("greeter", "Greeter.Nested", "x") is True
            async with client.stream("greeter", "Greeter.Pools", bool) as stream:
                await stream.send("x")
                assert [answer async for answer in stream] == [True, True]
            await client.publish("news", "x", confirm=True)
        assert seen == [pool]
    assert happened == ["before_start", "opened for greeter", "after_start True", "closed", "after_stop None"]


async def test_each_of_two_services_in_a_process_has_its_own_state() -> None:
    async with world() as here:
        with_pool, without = greeter(here, lifespan=Pool([]).open), here.service("other", linger=0)

        @without.handler
        async def state(text: str, context: Context) -> bool:
            return context.state is None

        async with with_pool, without, here.client() as client:
            assert await client.call("other", "Other.State", "x") is True
            assert await client.call("greeter", "Greeter.Pool", "x") is True


async def test_a_lifespan_is_closed_where_the_start_fails_after_it() -> None:
    happened: list[str] = []
    async with world() as here, here.service("one", linger=0) as one:
        service = greeter(here, lifespan=Pool(happened).open, address=one.address)
        with pytest.raises(ConfigError, match="in use"):
            await service.__aenter__()
    assert happened == ["opened for greeter", "closed"]


async def test_a_lifespan_that_fails_stops_the_start_with_its_own_exception() -> None:
    @asynccontextmanager
    async def lifespan(service: Service) -> AsyncIterator[None]:
        await anyio.lowlevel.checkpoint()
        if service.name:
            raise OSError("no database")
        yield

    happened: list[str] = []
    async with world() as here:
        service = greeter(here, lifespan=lifespan)
        service.after_stop(lambda: happened.append("after_stop"))
        with pytest.raises(OSError, match="no database"):
            await service.__aenter__()
    assert happened == ["after_stop"]


@pytest.mark.parametrize("kind", ["generator", "coroutine", "nothing"])
async def test_a_function_that_is_no_lifespan_is_told(kind: str) -> None:
    async def generator(service: Service) -> AsyncIterator[None]:
        yield

    async def coroutine(service: Service) -> None:
        pass

    functions: dict[str, Any] = {"generator": generator, "coroutine": coroutine, "nothing": lambda service: None}
    async with world() as here:
        with pytest.raises(ConfigError, match=r"returned an object of type .*put @asynccontextmanager above"):
            await greeter(here, lifespan=functions[kind]).__aenter__()


@pytest.mark.parametrize("moment", ["before_start", "after_start"])
async def test_hooks_that_fail_half_way_undo_what_came_before(moment: str) -> None:
    happened: list[str] = []

    async def fail() -> None:
        raise OSError("the second one fails")

    async with world() as here:
        service = greeter(here)
        add = getattr(service, moment)
        add(lambda: happened.append("first"))
        add(fail)
        add(lambda: happened.append("never"))
        service.before_stop(lambda: happened.append("before_stop"))
        service.after_stop(lambda: happened.append("after_stop"))
        with pytest.raises(OSError, match="the second one fails"):
            await service.__aenter__()
        assert not here.network.nodes
    undone = ["after_stop"] if moment == "before_start" else ["before_stop", "after_stop"]
    assert happened == ["first", *undone]


@pytest.mark.parametrize("moment", ["before_stop", "after_stop"])
async def test_every_hook_of_a_stop_is_called_though_one_fails(moment: str) -> None:
    happened: list[str] = []

    async def fail() -> None:
        happened.append("fails")
        raise OSError("the first one fails")

    async with world() as here:
        service = greeter(here)
        add = getattr(service, moment)
        add(fail)
        add(lambda: happened.append("second"))
        with pytest.raises(OSError, match="the first one fails"):
            async with service:
                pass
        assert not here.network.listeners
    assert happened == ["fails", "second"]
