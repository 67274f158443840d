"""Stands in for Go Micro's example stream/client: run Go's stream/server, and then this."""

import anyio
from messages_pb2 import Count

from micro_core import Client


async def main() -> None:
    async with Client() as client:
        async with client.stream("go.micro.srv.stream", "Streamer.Stream", Count) as stream:
            for number in range(10):
                await stream.send(Count(count=number))
                answer = await stream.receive()
                print(f"Sent msg {number} got msg {answer.count}")
        async with client.stream("go.micro.srv.stream", "Streamer.ServerStream", Count) as stream:
            await stream.send(Count(count=10))
            async for answer in stream:
                print(f"got msg {answer.count}")


if __name__ == "__main__":
    anyio.run(main)
