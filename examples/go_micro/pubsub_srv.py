"""Stands in for Go Micro's example pubsub/srv: run it, and then Go's pubsub/cli."""

from messages_pb2 import Event

from micro_core import Service

service = Service("go.micro.srv.pubsub")


@service.subscriber("example.topic.pubsub.1")
async def every_event(event: Event) -> None:
    print(f"[pubsub.1] Received event {event.message}", flush=True)


@service.subscriber("example.topic.pubsub.2", queue="queue.pubsub")
async def my_share_of_the_events(event: Event) -> None:
    print(f"[pubsub.2] Received event {event.message}", flush=True)


if __name__ == "__main__":
    service.run()
