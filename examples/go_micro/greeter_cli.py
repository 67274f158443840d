"""Stands in for Go Micro's example greeter/cli: run Go's greeter/srv, and then this."""

import anyio
from messages_pb2 import HelloRequest, HelloResponse

from micro_core import Client


async def main() -> None:
    async with Client() as client:
        reply = await client.call("go.micro.srv.greeter", "Say.Hello", HelloRequest(name="John"), HelloResponse)
        print(reply.msg)


if __name__ == "__main__":
    anyio.run(main)
