"""Stands in for Go Micro's example pubsub/cli: run Go's pubsub/srv, and then this."""

import time
import uuid

import anyio
from messages_pb2 import Event

from micro_core import Client


async def main() -> None:
    async with Client() as client:
        for number in (1, 2):
            text = f"Messaging you all day on example.topic.pubsub.{number}"
            event = Event(id=str(uuid.uuid4()), timestamp=int(time.time()), message=text)
            await client.publish(f"example.topic.pubsub.{number}", event)


if __name__ == "__main__":
    anyio.run(main)
