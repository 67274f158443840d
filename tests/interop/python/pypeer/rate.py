"""How many calls a second so many callers make, and how long one takes."""

import time

import anyio

from pypeer.client import Peer, case, say
from pypeer.item import Note

SECONDS = 2.0
WARM_UP_SECONDS = 0.5


@case
async def rate_1(peer: Peer) -> None:
    await rate(peer, 1)


@case
async def rate_64(peer: Peer) -> None:
    await rate(peer, 64)


async def rate(peer: Peer, callers: int) -> None:
    await called(peer, callers, WARM_UP_SECONDS)
    took = sorted(await called(peer, callers, SECONDS))
    p50, p99 = took[len(took) // 2], took[len(took) * 99 // 100]
    say({"event": "rate", "callers": callers, "rate": len(took) / SECONDS, "p50": p50, "p99": p99})


async def called(peer: Peer, callers: int, seconds: float) -> list[float]:
    end, took = time.perf_counter() + seconds, list[float]()
    note = Note("John")

    async def caller() -> None:
        now = time.perf_counter()
        while now < end:
            before = now
            await peer.client.call(peer.name, "Plain.Echo", note, Note)
            now = time.perf_counter()
            took.append(now - before)

    async with anyio.create_task_group() as tasks:
        for _ in range(callers):
            tasks.start_soon(caller)
    return took
