"""Cases of one request and one reply."""

import json
import time

import anyio
import pytest

from micro_core import Client, MicroError, NoNode, Timeout
from pypeer.client import Peer, case, expect
from pypeer.item import Item, Note

SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
PERCENT = "100% sure, 5%d of %s"


@case
async def empty_unary(peer: Peer) -> None:
    expect("reply", await peer.call("Interop.Echo", Item()), Item())


@case
async def large_unary(peer: Peer) -> None:
    await sized(peer, 271828, 314159)


@case
async def unary_1MiB(peer: Peer) -> None:
    await sized(peer, 1 << 20, 1 << 20)


async def sized(peer: Peer, sent: int, wanted: int) -> None:
    reply = await peer.call("Interop.Large", Item(body=bytes(sent), number=wanted))
    expect("sizes", (reply.text, len(reply.body)), (str(sent), wanted))


@case
async def concurrent_unary(peer: Peer) -> None:
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(echo, peer, peer.client, f"call {number}")


async def echo(peer: Peer, client: Client, text: str) -> None:
    item = Item(text=text, number=1 << 40)
    expect("reply", await peer.call_with(client, peer.name, "Interop.Echo", item), item)


@case
async def timeout_on_sleeping_server(peer: Peer) -> None:
    started = time.monotonic()
    error = await failure(peer, "Interop.Sleep", Item(number=2000), timeout=0.3)
    expect("error", type(error), Timeout)
    assert time.monotonic() - started < 1.5


@case
async def deadline_is_propagated(peer: Peer) -> None:
    reply = await peer.call("Interop.Deadline", Item(), timeout=0.7)
    assert 0 < reply.number <= 700, f"the handler has {reply.number} ms of 700"


async def failure(peer: Peer, endpoint: str, request: Item, **options: object) -> MicroError:
    """Return the error of a call, which has to come within two seconds."""
    started = time.monotonic()
    try:
        reply = await peer.call(endpoint, request, **options)
    except MicroError as error:
        assert time.monotonic() - started < 2
        return error
    raise AssertionError(f"no error, but {reply!r}")


async def failing(peer: Peer, text: str, code: int) -> None:
    error = await failure(peer, "Interop.Fail", Item(text=text, number=code))
    expect("error", (error.id, error.code, error.detail), ("interop.fail", code, text))


@case
async def error_code_and_detail(peer: Peer) -> None:
    await failing(peer, "no such user", 404)


@case
async def error_text_special(peer: Peer) -> None:
    await failing(peer, SPECIAL, 409)


@case
async def error_plain_text(peer: Peer) -> None:
    error = await failure(peer, "Interop.Fail", Item(text="plain ☺ text"))
    assert "plain ☺ text" in error.detail, error.detail


@case
async def error_text_percent(peer: Peer) -> None:
    """A text with signs that Go's formatting knows arrives as it is."""
    await failing(peer, PERCENT, 409)
    error = await failure(peer, "Interop.Fail", Item(text=PERCENT))
    assert PERCENT in error.detail, error.detail


@case
async def custom_metadata(peer: Peer) -> None:
    sent = {
        "X-Interop-Ascii": "plain",
        "X-Interop-Utf8": "naïve ☺ 😈",
        "X-Interop-Empty": "",
        "X-Interop-Long": "x" * 8192,
    }
    found = json.loads((await peer.call("Interop.Metadata", Item(), metadata=sent)).text)
    expect("metadata", {key: value for key, value in found.items() if key in sent}, sent)


@case
async def metadata_case_folding(peer: Peer) -> None:
    reply = await peer.call("Interop.Metadata", Item(), metadata={"x-interop-CASE": "folded"})
    expect("X-Interop-Case", json.loads(reply.text).get("X-Interop-Case"), "folded")


@case
async def unknown_endpoint(peer: Peer) -> None:
    error = await failure(peer, "Interop.Nowhere", Item())
    assert "Nowhere" in error.detail, error.detail


@case
async def unknown_service(peer: Peer) -> None:
    error = await failure(peer, "Nobody.Hello", Item())
    assert "Nobody" in error.detail, error.detail
    with pytest.raises(NoNode, match=r"interop\.nobody"):
        await peer.call_with(peer.client, "interop.nobody", "Interop.Echo", Item())


@case
async def unsupported_content_type(peer: Peer) -> None:
    error = await failure(peer, "Interop.Echo", Item(), content_type="application/x-interop")
    assert "unsupported content" in error.detail.lower(), error.detail


@case
async def raw_bytes(peer: Peer) -> None:
    sent = b"\x00\xffraw\n"
    reply = await peer.call("Interop.Raw", sent, bytes, content_type="application/octet-stream")
    expect("bytes", reply, sent)


@case
async def plain_struct(peer: Peer) -> None:
    """A client that is told nothing speaks JSON to what takes nothing else (docs/wire.md §9.3)."""
    async with Client() as client:
        reply = await client.call(peer.name, "Plain.Echo", Note(text="plain"), Note, address=peer.target or None)
    expect("reply", reply, Note(text="plain"))


@case
async def debug_health(peer: Peer) -> None:
    expect("health", await peer.call("Debug.Health", {}, dict, content_type="application/json"), {"status": "ok"})


@case
async def soak(peer: Peer) -> None:
    await make_calls(peer, peer.client, peer.calls)


@case
async def channel_soak(peer: Peer) -> None:
    for _ in range(0, peer.calls, 100):
        async with peer.new_client() as client:
            await make_calls(peer, client, 100)


async def make_calls(peer: Peer, client: Client, count: int) -> None:
    """Make so many calls, eight at a time."""

    async def worker(first: int) -> None:
        for number in range(first, count, 8):
            await echo(peer, client, f"call {number}")

    async with anyio.create_task_group() as tasks:
        for first in range(8):
            tasks.start_soon(worker, first)
