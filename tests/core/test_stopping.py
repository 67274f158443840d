"""What handlers and callers are told while a server stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from micro_core import ConfigError, Context, Executed, Unavailable
from micro_core.builtin.rpc.server import RpcServer
from micro_core.context import current_context
from micro_core.testing import world

pytestmark = pytest.mark.anyio


class Ticker:
    """Streams that end when they are told to, and that do not; and a call that waits."""

    async def polite(self, context: Context, request: str) -> AsyncIterator[str]:
        yield "begun"
        await context.stopping.wait()
        yield "goodbye"

    async def endless(self, request: str) -> AsyncIterator[str]:
        yield "begun"
        await anyio.sleep_forever()

    async def wait(self, context: Context, request: str) -> bool:
        await context.stopping.wait()
        return context.stopping.is_set()


async def test_streams_are_told_and_those_that_do_not_end_by_themselves_are_ended_as_stopping() -> None:
    heard: dict[str, list[Any]] = {"Polite": [], "Endless": []}
    begun = {name: anyio.Event() for name in heard}
    async with world() as here, here.client() as client:
        service = here.service("ticker", server="rpc://?stream_grace=0.05", linger=0)
        service.handler(Ticker)

        async def listen(name: str) -> None:
            try:
                async with client.stream("ticker", f"Ticker.{name}", str) as stream:
                    await stream.send("now")
                    async for message in stream:
                        heard[name].append(message)
                        begun[name].set()
            except Unavailable as error:
                heard[name].append(error)

        async with anyio.create_task_group() as listening:
            async with service:
                for name in heard:
                    listening.start_soon(listen, name)
                for event in begun.values():
                    await event.wait()
    assert heard["Polite"] == ["begun", "goodbye"]
    assert heard["Endless"][0] == "begun"
    error = heard["Endless"][1]
    assert type(error) is Unavailable
    assert "ticker is stopping" in error.detail
    assert error.executed is Executed.MAYBE


async def test_a_call_that_is_cut_off_at_the_end_of_a_stop_is_answered_that_the_server_stops() -> None:
    outcome: list[Any] = []
    begun = anyio.Event()
    async with world() as here, here.client() as client:
        service = here.service("sleeper", linger=0, drain_timeout=0.05)

        @service.handler
        class Sleeper:
            async def sleep(self, request: str) -> str:
                begun.set()
                await anyio.sleep_forever()
                return request

        async def call() -> None:
            try:
                await client.call("sleeper", "Sleeper.Sleep", "long", str)
            except Unavailable as error:
                outcome.append(error)

        async with anyio.create_task_group() as calls:
            async with service:
                calls.start_soon(call)
                await begun.wait()
    (error,) = outcome
    assert type(error) is Unavailable
    assert "sleeper is stopping" in error.detail


async def test_a_call_under_way_is_told_at_once_that_the_server_stops_and_finishes() -> None:
    answers: list[bool] = []
    async with world() as here, here.client() as client:
        service = here.service("ticker", linger=0)
        service.handler(Ticker)

        async def call() -> None:
            answers.append(await client.call("ticker", "Ticker.Wait", "", bool))

        async with anyio.create_task_group() as calls:
            async with service:
                calls.start_soon(call)
                await anyio.wait_all_tasks_blocked()
    assert answers == [True]


async def test_outside_of_a_server_nobody_is_ever_told() -> None:
    assert current_context() is None
    assert not Context({}).stopping.is_set()


def test_a_grace_below_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="stream_grace"):
        RpcServer(transport=None, codecs=[], stream_grace=-1)  # type: ignore[arg-type]
