"""The client's side: runs cases, and says a line of JSON about each."""

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread

from micro_core import Client, Codec, EncodeError
from pypeer.item import Item

Case = Callable[["Peer"], Awaitable[None]]
CASES: dict[str, Case] = {}


def case(function: Case) -> Case:
    CASES[function.__name__] = function
    return function


class Unknown(Codec):
    """A content type that no server has heard of."""

    name = "x-interop"
    content_type = "application/x-interop"

    def supports(self, type: Any) -> bool:
        return type is not bytes

    def encode(self, value: Any) -> bytes:
        if value is None:
            raise EncodeError("nothing")
        return b"{}"

    def decoder(self, type: Any) -> Callable[[bytes], Any]:
        return json.loads


class Peer:
    """A client and what the cases are about."""

    def __init__(self, name: str, topics: str, member: str, content_type: str, calls: int, target: str) -> None:
        self.name, self.topics, self.calls = name, topics, calls
        self.content_type, self.target = content_type, target
        self.servers = [name, *filter(None, member.split(","))]
        self.client = self.new_client()

    def new_client(self) -> Client:
        return Client(codec=["json", "bytes", "proto", Unknown()])

    async def call(self, endpoint: str, request: Any, response_type: Any = Item, **options: Any) -> Any:
        return await self.call_with(self.client, self.name, endpoint, request, response_type, **options)

    async def call_with(
        self, client: Client, name: str, endpoint: str, request: Any, response_type: Any = Item, **options: Any
    ) -> Any:
        options.setdefault("content_type", self.content_type)
        return await client.call(name, endpoint, request, response_type, **options, address=self.target or None)

    def stream(self, endpoint: str) -> Any:
        address = self.target or None
        return self.client.stream(self.name, endpoint, Item, content_type=self.content_type, address=address)


def say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


async def wait_for_word(event: str) -> None:
    """Tell the test that it is its turn, and wait until it answers."""
    say({"event": event})
    await anyio.to_thread.run_sync(sys.stdin.readline)


def expect(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"{what}: got {got!r:.200}, not {wanted!r:.200}")


async def eventually(seconds: float, attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it succeeds, for some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await attempt()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await anyio.sleep(0.02)


async def run_cases(peer: Peer, names: list[str]) -> None:
    from pypeer import network, rate, streams, unary  # noqa: F401 (they fill CASES)

    async with peer.client:
        for name in names:
            started = time.monotonic()
            line: dict[str, object] = {"case": name, "ok": True}
            try:
                with anyio.fail_after(60):
                    await CASES[name](peer)
            except Exception as error:
                while isinstance(error, ExceptionGroup):
                    error = error.exceptions[0]
                line |= {"ok": False, "detail": f"{type(error).__name__}: {error}"}
            say(line | {"seconds": time.monotonic() - started})
