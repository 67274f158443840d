"""The server's side of the cases."""

import json
import math
from collections import Counter
from collections.abc import AsyncIterator

import anyio

from micro_core import Context, Node, Record, RemoteError, Service
from micro_core.testing import make_part
from pypeer.item import Item, Note


class Interop:
    """One endpoint for each thing that is tried; see go/peer/server.go."""

    def __init__(self) -> None:
        self._left = 0
        self._seen: dict[str, Counter[int]] = {}

    async def echo(self, request: Item) -> Item:
        return request

    async def large(self, request: Item) -> Item:
        return Item(text=str(len(request.body)), body=bytes(request.number))

    async def sleep(self, request: Item) -> Item:
        try:
            await anyio.sleep(request.number / 1000)
        except anyio.get_cancelled_exc_class():
            self._left += 1
            raise
        return Item()

    async def deadline(self, request: Item, context: Context | None = None) -> Item:
        if context is None or context.deadline == math.inf:
            return Item()
        return Item(number=int((context.deadline - anyio.current_time()) * 1000))

    async def fail(self, request: Item) -> Item:
        raise RemoteError(request.text, code=request.number, id="interop.fail")

    async def metadata(self, request: Item, context: Context | None = None) -> Item:
        assert context is not None
        return Item(text=json.dumps(dict(context.metadata)))

    async def raw(self, request: bytes) -> bytes:
        return request

    async def count(self, request: Item) -> AsyncIterator[Item]:
        for number in range(request.number):
            yield Item(text=f"item {number}", number=number)
            await anyio.sleep(int(request.text) / 1000)

    async def collect(self, requests: AsyncIterator[Item]) -> Item:
        total = 0
        async for item in requests:
            if item.text == "end":
                break
            total += item.number
        return Item(number=total)

    async def chat(self, requests: AsyncIterator[Item]) -> AsyncIterator[Item]:
        async for item in requests:
            yield Item(text=item.text, body=item.body, number=item.number + 1)

    async def duplex(self, requests: AsyncIterator[Item]) -> AsyncIterator[Item]:
        for number in range((await anext(requests)).number):
            await anyio.sleep(0.02)
            yield Item(number=number)
        yield await anext(requests)

    async def nothing(self, requests: AsyncIterator[Item]) -> AsyncIterator[Item]:
        nothing: tuple[Item, ...] = ()
        for item in nothing:
            yield item

    async def hold(self, requests: AsyncIterator[Item]) -> AsyncIterator[Item]:
        try:
            async for item in requests:
                yield item
        finally:
            self._left += 1

    async def left(self, request: Item) -> Item:
        return Item(number=self._left)

    async def seen(self, request: Item) -> Item:
        times = self._seen.get(request.text, Counter())
        return Item(text=str(len(times)), number=times.total())

    async def _on_event(self, item: Item) -> None:
        self._seen.setdefault(item.text, Counter())[item.number] += 1


class Plain:
    """A handler that takes no protobuf in either mode."""

    async def echo(self, request: Note) -> Note:
        return request


async def announce(name: str, address: str, count: int) -> None:
    """Register so many nodes at one address, and stay."""
    nodes = [Node(id=f"{name}-{number}", address=address, metadata={"protocol": "mucp"}) for number in range(count)]
    async with make_part("registry", "mdns") as registry:
        await registry.register(Record(name=name, version="1.0", nodes=tuple(nodes)))
        print("ready", address, flush=True)
        await anyio.sleep_forever()


def make_service(name: str, topics: str, address: str) -> Service:
    """Return the service, with both kinds of subscribers."""
    interop = Interop()
    host = address.rpartition(":")[0]
    service = Service(name, version="1.0", address=address, broker=f"http://{host}:0")
    service.handler(interop)
    service.handler(Plain)
    service.subscriber(f"{topics}.all")(interop._on_event)
    service.subscriber(f"{topics}.queue", queue="workers")(interop._on_event)

    @service.after_start
    def say() -> None:
        print("ready", service.address, flush=True)

    return service
