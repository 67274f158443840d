"""One process: `python -m peers on_micro serve` or `python -m peers on_micro call ADDRESS CALLERS SECONDS`.

A server prints `ready ADDRESS`; a client prints one line of JSON with its rate and its latencies in seconds.
"""

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import chain
from typing import Any

import uvloop

WARM_UP_SECONDS = 0.5


def main(peer: str, what: str, *arguments: str) -> None:
    module = importlib.import_module(f"peers.{peer}")
    if what == "serve":
        module.serve()
        return
    address, callers, seconds = arguments
    # grpcio's asyncio API does not run faster on uvloop; everybody has the loop that is best for them.
    run = asyncio.run if peer.startswith("on_grpcio") else uvloop.run
    print(json.dumps(run(measure(module, address, int(callers), float(seconds)))))


async def measure(module: Any, address: str, callers: int, seconds: float) -> dict[str, float]:
    async with module.caller(address) as call:
        await asyncio.gather(*(repeat(call, WARM_UP_SECONDS) for _ in range(callers)))
        started = time.perf_counter()
        latencies = sorted(chain(*await asyncio.gather(*(repeat(call, seconds) for _ in range(callers)))))
        elapsed = time.perf_counter() - started
    return {"rate": len(latencies) / elapsed, "p50": latencies[len(latencies) // 2]}


async def repeat(call: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    latencies = []
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        before = now
        await call()
        now = time.perf_counter()
        latencies.append(now - before)
    return latencies


if __name__ == "__main__":
    main(*sys.argv[1:])
