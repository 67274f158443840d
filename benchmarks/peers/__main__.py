"""One process: `python -m peers PEER serve`, or `python -m peers PEER call|stream ADDRESS PID SECONDS WORK…`.

A server prints `ready ADDRESS`. A client does one work after another, each written CALLERS:CODEC:SIZE, or WINDOW for a
stream, and prints one line of JSON for each. Latencies are seconds.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

WARM_UP = 0.4
"""The share of the measured time that goes before it."""


def main(peer: str, what: str, *arguments: str) -> None:
    module = importlib.import_module(f"peers.{peer}")
    if what == "serve":
        module.serve()
        return
    address, pid, seconds, *works = arguments
    # Everybody has the loop that is best for them; grpcio's asyncio API is no faster on uvloop.
    backend, options = getattr(module, "BACKEND", ("asyncio", {"use_uvloop": True}))
    do = call if what == "call" else stream
    anyio.run(do, module, address, int(pid), float(seconds), works, backend=backend, backend_options=options)


async def call(module: Any, address: str, server: int, seconds: float, works: list[str]) -> None:
    for work in works:
        callers, codec, size = work.split(":")
        async with module.caller(address, codec, int(size)) as one_call:
            await repeat(one_call, int(callers), seconds * WARM_UP)
            print(json.dumps(await measured(one_call, int(callers), seconds, server)), flush=True)


async def stream(module: Any, address: str, server: int, seconds: float, works: list[str]) -> None:
    """A window of one is ping-pong: a message goes out when the one before has come back."""
    for window in map(int, works):
        async with module.streamer(address) as (send, receive):
            for _ in range(window):
                await send()

            async def echo(send: Any = send, receive: Any = receive) -> None:
                await receive()
                await send()

            await repeat(echo, 1, seconds * WARM_UP)
            print(json.dumps(await measured(echo, 1, seconds, server)), flush=True)


async def measured(
    one_call: Callable[[], Awaitable[object]], callers: int, seconds: float, server: int
) -> dict[str, float]:
    """Return the rate and what a call took: seconds from ask to answer, and of processor time on each side."""
    started, here, there = time.perf_counter(), time.process_time(), processor_seconds(server)
    latencies = sorted(await repeat(one_call, callers, seconds))
    here, there = time.process_time() - here, processor_seconds(server) - there
    calls = len(latencies)
    return {
        "rate": calls / (time.perf_counter() - started),
        "p50": latencies[calls // 2],
        "p99": latencies[min(calls - 1, calls * 99 // 100)],
        "client_cpu": here / calls,
        "server_cpu": there / calls,
    }


async def repeat(one_call: Callable[[], Awaitable[object]], callers: int, seconds: float) -> list[float]:
    latencies: list[float] = []

    async def caller() -> None:
        now = time.perf_counter()
        end = now + seconds
        while now < end:
            before = now
            await one_call()
            now = time.perf_counter()
            latencies.append(now - before)

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller)
    return latencies


def processor_seconds(process: int) -> float:
    """Return the processor time that a process, its threads and its children have had (/proc/PID/stat, in ticks)."""
    folder = Path("/proc", str(process))
    fields = folder.joinpath("stat").read_text(encoding="ascii").rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = [each for file in folder.glob("task/*/children") for each in file.read_text(encoding="ascii").split()]
    return own + sum(processor_seconds(int(each)) for each in children)


if __name__ == "__main__":
    main(*sys.argv[1:])
