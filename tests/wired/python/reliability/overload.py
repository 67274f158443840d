"""Rows about overload: three times as many calls as can be answered."""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

from micro_core import Client

from .load import calling, load
from .processes import greeters
from .row import TEST, Measured, Pace

__all__ = ["overloaded"]

HANDLER_SECONDS = 0.005
TIMES = 3
PATIENCE = 1.0


async def overloaded(pace: Pace, *, endpoint: str, callers: int, **variables: str) -> Measured:
    """One node gets three times what it can do, from as many callers, and then a call each 0.1 s."""
    seconds = 2 * pace.seconds
    async with AsyncExitStack() as stack:
        (node,) = stack.enter_context(greeters(1, **variables))
        clients = [await stack.enter_async_context(calling(node.address)) for _ in range(callers)]
        capacity = await possible(clients[0][0], endpoint)
        before = (await clients[0][0].call("greeter", "Greeter.Counts", "", dict))["done"]
        answers: list[float] = []

        async def one_caller(number: int) -> None:
            client, selector = clients[number]
            rate = TIMES * capacity / callers
            outcome = await load(client, selector, endpoint, seconds, rate, HANDLER_SECONDS, timeout=PATIENCE)
            answers.extend(outcome.latencies)

        async with anyio.create_task_group() as tasks:
            for number in range(callers):
                tasks.start_soon(one_caller, number)
        client, selector = clients[0]
        done = (await client.call("greeter", "Greeter.Counts", "", dict))["done"] - before
        await anyio.sleep(1.0)
        after = await load(client, selector, endpoint, 1.0, 10, HANDLER_SECONDS, timeout=PATIENCE)
    goodput, in_time = len(answers) / seconds / capacity, len(answers) / max(done, 1)
    text = f"{goodput:.0%} of {capacity:.0f}/s, {done - len(answers)} of {done} ran for nobody"
    is_met = in_time >= 0.8 and goodput >= (0.4 if pace is TEST else 0.8) and not after.failures
    return Measured(is_met, f"{text}, {len(after.failures)} of 10 failed after")


async def possible(client: Client, endpoint: str) -> float:
    """Return how many calls a second are answered to four callers that wait for each answer: the capacity."""
    answered = 0

    async def one_caller() -> None:
        nonlocal answered
        while True:
            await client.call("greeter", endpoint, HANDLER_SECONDS, str)
            answered += 1

    with anyio.move_on_after(1.0):
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(one_caller)
    return answered / 1.0
