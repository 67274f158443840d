"""Publishing on this framework: `subscribe COUNT` or `publish COUNT`, by discovery and the http broker."""

import json
import os
import sys
import time

import anyio

from micro_core import Client, Service

from .messages import Hello, hello
from .processes import SERVICE

TOPIC = f"{SERVICE}.greetings"


def subscribe(expected: int) -> None:
    service = Service(f"{SERVICE}-{os.getpid()}")
    received = 0

    @service.subscriber(TOPIC)
    async def take(message: Hello) -> None:
        nonlocal received
        received += 1
        if received == expected:
            print(json.dumps({"received": received, "at": time.monotonic()}), flush=True)

    @service.after_start
    def say_where() -> None:
        print(f"ready {service.address}", flush=True)

    service.run(argv=[])


async def publish(count: int) -> None:
    message = hello("json", 64)
    async with Client() as client:
        await client.publish(TOPIC, message, confirm=True)  # subscribers are found, connections open
        started = time.monotonic()
        for _ in range(count - 1):
            await client.publish(TOPIC, message)
        await client.flush()
    print(json.dumps({"at": started}))


if __name__ == "__main__":
    if sys.argv[1] == "subscribe":
        subscribe(int(sys.argv[2]))
    else:
        anyio.run(publish, int(sys.argv[2]), backend_options={"use_uvloop": True})
