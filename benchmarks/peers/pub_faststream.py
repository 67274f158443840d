"""Publishing on FastStream: `subscribe COUNT ADDRESS` or `publish COUNT ADDRESS`, that of a nats-server."""

import asyncio
import json
import sys
import time

import uvloop
from faststream.nats import NatsBroker

from .messages import Hello, hello


async def subscribe(expected: int, address: str) -> None:
    broker = NatsBroker(f"nats://{address}", logger=None)
    received, done = 0, asyncio.Event()

    @broker.subscriber("greetings", pending_msgs_limit=1 << 20)  # type: ignore[untyped-decorator]
    async def take(message: Hello) -> None:
        nonlocal received
        received += 1
        if received == expected:
            print(json.dumps({"received": received, "at": time.monotonic()}), flush=True)
            done.set()

    async with broker:
        await broker.start()
        print(f"ready {address}", flush=True)
        await done.wait()


async def publish(count: int, address: str) -> None:
    message = hello("json", 64)
    async with NatsBroker(f"nats://{address}", logger=None) as broker:
        await broker.publish(message, "greetings")
        started = time.monotonic()
        for _ in range(count - 1):
            await broker.publish(message, "greetings")
    print(json.dumps({"at": started}))


if __name__ == "__main__":
    do = subscribe if sys.argv[1] == "subscribe" else publish
    uvloop.run(do(int(sys.argv[2]), sys.argv[3]))
