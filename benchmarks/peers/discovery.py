"""Look-ups and announcements among COUNT services over multicast DNS on loopback: `discovery COUNT ROUNDS`.

One registry announces, another looks up and watches, as two processes would. Prints JSON: what each took, in seconds.
"""

import json
import sys
import time
from statistics import median

import anyio

from micro_core import Node, Record
from micro_core.testing import make_part

from .processes import SERVICE

INTERFACE = {"interface": "127.0.0.1"}


async def main(count: int, rounds: int) -> None:
    lookups, announcements = [], []
    async with make_part("registry", "mdns", INTERFACE) as there, make_part("registry", "mdns", INTERFACE) as here:
        for number in range(count):
            await there.register(record(f"{SERVICE}-{number}"), ttl=90)
        await anyio.sleep(4)  # announcements are repeated; this is about the time after
        for number in range(rounds):
            name = f"{SERVICE}-{number % count}"
            started = time.perf_counter()
            assert await here.lookup(name)
            lookups.append(time.perf_counter() - started)
            name = f"{SERVICE}-new-{number}"
            async with here.watch(name) as changes:
                started = time.perf_counter()
                await there.register(record(name), ttl=90)
                with anyio.fail_after(30):
                    await anext(changes)
                announcements.append(time.perf_counter() - started)
    print(json.dumps({"look-up among services": taken(lookups), "announcement among services": taken(announcements)}))


def taken(seconds: list[float]) -> dict[str, float]:
    return {"rate": 1 / median(seconds), "p50": median(seconds), "p99": max(seconds)}


def record(name: str) -> Record:
    node = Node(id=f"{name}-1", address="127.0.0.1:9", metadata={"protocol": "mucp"})
    return Record(name=name, version="latest", nodes=(node,))


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), int(sys.argv[2]), backend_options={"use_uvloop": True})
