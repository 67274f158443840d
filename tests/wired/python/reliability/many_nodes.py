"""What calls cost where a service has very many nodes: all of loopback's addresses lead to one server."""

from __future__ import annotations

import time
from statistics import median

import anyio

from micro_core import Client

from .load import calling
from .processes import greeters
from .row import Measured, Pace

__all__ = ["aperture"]

CALLERS, TURNS = 64, 5


async def aperture(pace: Pace) -> Measured:
    """64 callers on 1,000 nodes with an aperture of 20, and on 3 nodes, in turns: processor time of the client."""
    with greeters(1, host="0.0.0.0") as (server,):
        port = server.address.rpartition(":")[2]
        addresses = [f"127.0.{number // 250}.{number % 250 + 1}:{port}" for number in range(1000)]
        ratios = []
        async with (
            calling(*addresses[:3], selector="random") as (few, _),
            calling(*addresses, selector="random", client="rpc://?aperture=20") as (many, _),
        ):
            for _ in range(TURNS):
                base = await seconds_a_call(few, pace.seconds / TURNS / 2)
                ratios.append(await seconds_a_call(many, pace.seconds / TURNS / 2) / base)
    return Measured(median(ratios) <= 1.1, f"{median(ratios):.2f} × ({min(ratios):.2f} – {max(ratios):.2f})")


async def seconds_a_call(client: Client, seconds: float) -> float:
    """Return the processor time of this process that a call takes."""
    calls, until = 0, anyio.current_time() + seconds

    async def caller() -> None:
        nonlocal calls
        while anyio.current_time() < until:
            await client.call("greeter", "Greeter.Hello", "x", str)
            calls += 1

    began = time.process_time()
    async with anyio.create_task_group() as callers:
        for _ in range(CALLERS):
            callers.start_soon(caller)
    return (time.process_time() - began) / calls
