"""Publishing on this framework, by discovery and the http broker: `publish COUNT`, or `subscribe COUNT [TIMES]`.

The subscriber is there as many TIMES, each of which gets its copies of the messages.
"""

import json
import os
import sys
import time

import anyio

from micro_core import Client, Service

from .messages import Hello, hello
from .processes import SERVICE

TOPIC = f"{SERVICE}.greetings"
WARM_UP = Hello("")
"""Published until every subscriber has been found for sure; not counted."""


def subscribe(expected: int, times: int) -> None:
    service = Service(f"{SERVICE}-{os.getpid()}")
    received = 0

    async def take(message: Hello) -> None:
        nonlocal received
        if message == WARM_UP:
            return
        received += 1
        if received == expected * times:
            print(json.dumps({"received": received, "at": time.monotonic()}), flush=True)

    for _ in range(times):
        service.subscriber(TOPIC)(take)

    @service.after_start
    def say_where() -> None:
        print(f"ready {service.address}", flush=True)

    service.run(argv=[])


async def publish(count: int) -> None:
    message = hello("json", 64)
    async with Client() as client:
        for _ in range(20):
            await client.publish(TOPIC, WARM_UP, confirm=True)
            await anyio.sleep(0.05)
        started = time.monotonic()
        for _ in range(count):
            await client.publish(TOPIC, message)
        await client.flush()
    print(json.dumps({"at": started}))


if __name__ == "__main__":
    if sys.argv[1] == "subscribe":
        subscribe(int(sys.argv[2]), int((sys.argv[3:] or ["1"])[0]))
    else:
        anyio.run(publish, int(sys.argv[2]), backend_options={"use_uvloop": True})
