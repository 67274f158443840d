"""Cases of streams."""

import anyio

from pypeer.client import Peer, case, eventually, expect
from pypeer.item import Item


@case
async def server_stream(peer: Peer) -> None:
    await counted(peer, 5, "50")


@case
async def server_stream_fast(peer: Peer) -> None:
    await counted(peer, 64, "0")


async def counted(peer: Peer, count: int, pause: str) -> None:
    async with peer.stream("Interop.Count") as stream:
        await stream.send(Item(text=pause, number=count))
        items = [item async for item in stream]
    expect("items", items, [Item(text=f"item {number}", number=number) for number in range(count)])


@case
async def client_stream(peer: Peer) -> None:
    async with peer.stream("Interop.Collect") as stream:
        for number in range(1, 11):
            await stream.send(Item(number=number))
        await stream.close_send()
        expect("total", (await stream.receive()).number, 55)


@case
async def ping_pong(peer: Peer) -> None:
    async with peer.stream("Interop.Chat") as stream:
        for number in range(10):
            await stream.send(Item(text="ping", number=number))
            expect("answer", await stream.receive(), Item(text="ping", number=number + 1))


@case
async def full_duplex(peer: Peer) -> None:
    """Either side sends while it waits for the other's next message."""
    items: list[Item] = []
    unasked = anyio.Event()
    with anyio.fail_after(3):
        async with peer.stream("Interop.Duplex") as stream, anyio.create_task_group() as tasks:

            async def read() -> None:
                async for item in stream:
                    items.append(item)
                    if len(items) == 5:
                        unasked.set()

            await stream.send(Item(number=5))
            tasks.start_soon(read)
            await unasked.wait()
            await stream.send(Item(text="end"))
    expect("items", items, [*(Item(number=number) for number in range(5)), Item(text="end")])


@case
async def empty_stream(peer: Peer) -> None:
    async with peer.stream("Interop.Nothing") as stream:
        expect("items", [item async for item in stream], [])


@case
async def cancel_after_first_response(peer: Peer) -> None:
    before = (await peer.call("Interop.Left", Item())).number
    async with peer.stream("Interop.Hold") as stream:
        await stream.send(Item(text="hold"))
        expect("answer", await stream.receive(), Item(text="hold"))

    async def has_left() -> None:
        now = (await peer.call("Interop.Left", Item())).number
        assert now > before, f"the handler goes on: {now} have left after {before}"

    await eventually(5, has_left)
