"""Stands in for Go Micro's example stream/server: run it, and then Go's stream/client."""

from collections.abc import AsyncIterator

from messages_pb2 import Count

from micro_core import Service

service = Service("go.micro.srv.stream")


@service.handler
class Streamer:
    async def stream(self, requests: AsyncIterator[Count]) -> AsyncIterator[Count]:
        async for request in requests:
            yield Count(count=request.count)

    async def server_stream(self, request: Count) -> AsyncIterator[Count]:
        for number in range(request.count):
            yield Count(count=number)


if __name__ == "__main__":
    service.run()
