"""A subscriber in a process of its own: prints its records once it listens, and the body of each message it handled."""

import json
import sys

import anyio

from micro_broker_http import HttpBroker
from micro_core import Subscription
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry


def say(line):
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def main(queue):
    async def handler(topic, message):
        await anyio.sleep(0.001)
        say(message.body)

    registry = MemoryRegistry(network=MemoryNetwork())
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=handler, queue=queue)):
            [record] = await registry.lookup("micro.http.broker")
            say(json.dumps({"id": record.nodes[0].id, "address": record.nodes[0].address}).encode())
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], backend=sys.argv[2])
