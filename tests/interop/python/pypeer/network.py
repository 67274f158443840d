"""Cases of discovery, of nodes that come and go, and of messages."""

import uuid

import anyio

from micro_core import ChangeKind, Head, Registry, Transport
from micro_core.testing import make_part
from pypeer.client import Peer, case, eventually, expect, say, wait_for_word
from pypeer.item import PROTOBUF, Item, item_message


def registry() -> Registry:
    part: Registry = make_part("registry", "mdns")
    return part


@case
async def discover_and_list(peer: Peer) -> None:
    async with registry() as known:
        services = await known.services()
        assert peer.name in services, f"{peer.name} is not among {services}"
        (record,) = await known.lookup(peer.name)
    assert all(node.metadata["protocol"] == "mucp" for node in record.nodes)
    (request,) = [endpoint.request for endpoint in record.endpoints if endpoint.name == "Interop.Echo"]
    assert request is not None
    expect("request", request.name, "Item")


@case
async def watch_add_and_remove(peer: Peer) -> None:
    """See a service come and go that the test starts and stops meanwhile."""
    async with registry() as known, known.watch(peer.name) as changes:
        await wait_for_word("watching")
        for wanted in (ChangeKind.CREATE, ChangeKind.DELETE):
            while (await anext(changes)).kind is not wanted:
                pass
            await wait_for_word(wanted.value)


@case
async def retry_on_dead_node(peer: Peer) -> None:
    """Call while the test kills one of two nodes."""
    for _ in range(10):
        await peer.call("Interop.Echo", Item(text="alive"), idempotent=True)
    await wait_for_word("kill")
    for _ in range(60):
        await peer.call("Interop.Echo", Item(text="dead"), idempotent=True)


@case
async def publish_broadcast(peer: Peer) -> None:
    await published(peer, "all", 20 * len(peer.servers))


@case
async def publish_queue_group(peer: Peer) -> None:
    await published(peer, "queue", 20)


async def published(peer: Peer, topic: str, wanted: int, count: int = 20, seconds: float = 3) -> None:
    key = f"{topic} {uuid.uuid4()}"
    for number in range(count):
        await peer.client.publish(f"{peer.topics}.{topic}", Item(text=key, number=number))
    await peer.client.flush()
    await eventually(seconds, lambda: handled(peer, key, wanted))


async def handled(peer: Peer, key: str, wanted: int) -> None:
    """See that so many messages were handled by all servers together."""
    total = 0
    for name in peer.servers:
        total += (await peer.call_with(peer.client, name, "Interop.Seen", Item(text=key))).number
    expect("handled", total, wanted)


@case
async def publish_burst(peer: Peer) -> None:
    """All of what is published without a gap arrives."""
    await published(peer, "all", peer.calls * len(peer.servers), peer.calls, 30)


@case
async def publish_via_rpc_port(peer: Peer) -> None:
    """Send messages to the port for calls, as some of Go Micro's own clients do; ours publishes through the broker."""
    key = f"rpc {uuid.uuid4()}"
    codec = make_part("codec", "proto")[0] if PROTOBUF else None
    transport: Transport = make_part("transport", "http")
    async with registry() as known, transport:
        (record,) = await known.lookup(peer.name)
        channel = transport.connect(record.nodes[0])
        content_type = b"application/protobuf" if codec else b"application/json"
        head = Head({b"Content-Type": content_type, b"Micro-Topic": f"{peer.topics}.all".encode()})
        for number in range(5):
            body = (
                item_message()(text=key, number=number).SerializeToString()
                if codec
                else b'{"text":"%s","number":%d}' % (key.encode(), number)
            )
            with anyio.fail_after(5):
                await channel.call(head, number + 1, {}, body, anyio.current_time() + 5)
    await eventually(5, lambda: handled_by_first(peer, key, 5))


async def handled_by_first(peer: Peer, key: str, wanted: int) -> None:
    expect("handled", (await peer.call("Interop.Seen", Item(text=key))).number, wanted)


@case
async def list_nodes(peer: Peer) -> None:
    """Say which nodes the registry knows."""
    async with registry() as known:
        with anyio.move_on_after(0.5):
            async with known.watch(peer.name) as changes:
                async for _ in changes:
                    pass
        records = await known.lookup(peer.name)
    nodes = [node for record in records for node in record.nodes]
    say({"event": "nodes", "addresses": sorted({node.address for node in nodes}), "count": len(nodes)})


@case
async def calls_for_a_while(peer: Peer) -> None:
    """Call without a pause while the test disturbs the servers; none of the idempotent calls may fail."""
    await wait_for_word("calling")
    for number in range(peer.calls):
        await peer.call("Interop.Echo", Item(text=f"{number}"), idempotent=True)
        await anyio.sleep(0.005)


@case
async def somebody_has_left(peer: Peer) -> None:
    """See that the handler of a caller who is gone was cancelled."""

    async def has_left() -> None:
        assert (await peer.call("Interop.Left", Item())).number > 0, "the handler goes on"

    await eventually(5, has_left)
