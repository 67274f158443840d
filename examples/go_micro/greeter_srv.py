"""Stands in for Go Micro's example greeter/srv: run it, and then Go's greeter/cli."""

from messages_pb2 import HelloRequest, HelloResponse

from micro_core import Service

service = Service("go.micro.srv.greeter")


@service.handler
class Say:
    async def hello(self, request: HelloRequest) -> HelloResponse:
        return HelloResponse(msg=f"Hello {request.name}")


if __name__ == "__main__":
    service.run()
