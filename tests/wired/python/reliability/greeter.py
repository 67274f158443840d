"""The service that the rows break: `python greeter.py NAME HOST` prints its address once it serves."""

import sys
import time
from collections.abc import AsyncIterator

import anyio

from micro_core import Service, idempotent

COUNTS = {"done": 0, "cancelled": 0}
ONE_AT_A_TIME = anyio.Semaphore(1)
service = Service("greeter", address=f"{sys.argv[2]}:0", registry="memory", broker="memory")


@service.handler
class Greeter:
    """Says its name, so that a caller sees who answered."""

    @idempotent
    async def hello(self, name: str) -> str:
        return await self.work(0)

    async def charge(self, name: str) -> str:
        return await self.work(0)

    @idempotent
    async def slow(self, seconds: float) -> str:
        return await self.work(seconds)

    async def repeat(self, name: str) -> AsyncIterator[str]:
        for _ in range(3):
            yield await self.work(0)

    async def endless(self, name: str) -> AsyncIterator[str]:
        yield sys.argv[1]
        await anyio.sleep_forever()

    async def compute(self, seconds: float) -> str:
        COUNTS["done"] += 1
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        return sys.argv[1]

    async def share(self, seconds: float) -> str:
        """Wait for what all calls share: a database that takes one query at a time."""
        async with ONE_AT_A_TIME:
            await anyio.sleep(seconds)
        COUNTS["done"] += 1
        return sys.argv[1]

    async def counts(self, name: str) -> dict[str, int]:
        return COUNTS

    async def work(self, seconds: float) -> str:
        try:
            if seconds:
                await anyio.sleep(seconds)
        except BaseException:
            COUNTS["cancelled"] += 1
            raise
        COUNTS["done"] += 1
        return sys.argv[1]


@service.after_start
async def say() -> None:
    sys.stdout.write(f"at {service.address}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    service.run([])
