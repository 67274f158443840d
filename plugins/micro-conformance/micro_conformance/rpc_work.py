"""What clients and servers are tried with: a service with an endpoint of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel

from micro_core import (
    Call,
    CallOptions,
    Conflict,
    Context,
    Executed,
    Handler,
    HandlerKind,
    Node,
    Record,
    Registry,
    Request,
    Server,
    Unavailable,
)
from micro_core.testing import MemoryNetwork, make_part

__all__ = ["SERVICE", "Declined", "Greeting", "Work", "call", "memory_parts", "node_of", "record_of", "stream"]

SERVICE = "conformance"


class Declined(Conflict):
    """An error of the application's own."""


@dataclass
class Greeting:
    """A reply with a type of its own."""

    text: str


class Work:
    """The functions behind the endpoints, and what became of them."""

    def __init__(self) -> None:
        self.started = anyio.Event()
        self.released = anyio.Event()
        self.cancelled = anyio.Event()
        self.unanswered: list[Request] = []
        self.taken_calls = 0

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """The endpoints, by name."""
        made = [
            handler("Hello", self.hello, response_type=Greeting),
            handler("Echo", self.echo),
            handler("Header", self.header),
            handler("Taken", self.taken),
            handler("Decline", self.decline),
            handler("LetThrough", self.let_through),
            handler("Fail", self.fail),
            handler("Hold", self.hold),
            handler("Count", self.count, HandlerKind.SERVER_STREAM),
            handler("Join", self.join, HandlerKind.CLIENT_STREAM),
            handler("Chat", self.chat, HandlerKind.BIDIRECTIONAL),
            handler("Late", self.late),
            handler("Remaining", self.remaining),
            handler("Where", self.where),
            handler("Break", self.break_off, HandlerKind.SERVER_STREAM),
            handler("Tail", self.tail, HandlerKind.SERVER_STREAM),
        ]
        return {one.name: one for one in made}

    async def hello(self, context: Context, name: str) -> Greeting:
        return Greeting(f"Hello {name}")

    async def echo(self, context: Context, text: str) -> str:
        await anyio.lowlevel.checkpoint()
        return text

    async def header(self, context: Context, name: str) -> str:
        return context.metadata.get(name, "")

    async def taken(self, context: Context, name: str) -> str:
        self.taken_calls += 1
        raise Conflict(f"{name} is taken", id="names")

    async def decline(self, context: Context, name: str) -> str:
        raise Declined(f"{name} was declined", details={"name": name})

    async def let_through(self, context: Context, address: str) -> str:
        """Raise what a client raises that cannot reach another service."""
        raise Unavailable(f"users Users.Get at {address}: refused", executed=Executed.NO, service="users", node=address)

    async def fail(self, context: Context, text: str) -> str:
        raise RuntimeError(text)

    async def hold(self, context: Context, text: str) -> str:
        """Wait until it is released or cancelled."""
        self.started.set()
        try:
            await self.released.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled.set()
            raise
        return text

    async def late(self, context: Context, name: str) -> str:
        """Read the metadata when other calls have begun."""
        await anyio.sleep(0.05)
        return context.metadata.get(name, "")

    async def remaining(self, context: Context, text: str) -> str:
        """Return the seconds until the deadline."""
        return str(context.deadline - anyio.current_time())

    async def where(self, context: Context, text: str) -> str:
        """Return the address of the node that was called."""
        return context.local

    async def break_off(self, context: Context, text: str) -> AsyncIterator[str]:
        yield f"{text} 0"
        yield f"{text} 1"
        raise Conflict(f"no more of {text}", id="names")

    async def tail(self, context: Context, text: str) -> AsyncIterator[str]:
        """Answer once, and wait until it is cancelled."""
        yield text
        try:
            await self.released.wait()
        except BaseException:  # cancelled, or closed where it waits
            self.cancelled.set()
            raise

    async def count(self, context: Context, text: str) -> AsyncIterator[str]:
        for number in range(3):
            yield f"{text} {number}"

    async def join(self, context: Context, texts: AsyncIterator[str]) -> str:
        return ", ".join([text async for text in texts])

    async def chat(self, context: Context, texts: AsyncIterator[str]) -> AsyncIterator[str]:
        async for text in texts:
            yield text.upper()


def handler(
    name: str, function: Any, kind: HandlerKind = HandlerKind.UNARY, *, response_type: type[Any] = str
) -> Handler:
    """Return the handler of one endpoint, which takes texts."""
    return Handler(name=f"Work.{name}", kind=kind, function=function, request_type=str, response_type=response_type)


def call(method: str, text: str = "a", response_type: type[Any] = str, **options: Any) -> Call:
    """Return a unary call of `Work`."""
    return Call(SERVICE, f"Work.{method}", text, response_type, CallOptions(**options))


def stream(method: str) -> Call:
    """Return a call that opens a stream of `Work`."""
    return Call(SERVICE, f"Work.{method}", None, str, streaming=True)


@asynccontextmanager
async def memory_parts(network: MemoryNetwork) -> AsyncIterator[tuple[Registry, Mapping[str, Any]]]:
    """Open a registry, and the parts that a server takes and a client too."""
    with network.current():
        registry, transport = make_part("registry", "memory"), make_part("transport", "memory")
    async with registry, transport:
        yield registry, {"transport": transport, "codecs": make_part("codec", "json")}


def node_of(address: str, server: Server, number: int = 0) -> Node:
    """Return the node of a server that listens on ``address``."""
    return Node(id=f"{SERVICE}-{number}", address=address, metadata={**server.metadata, "micro": "1"})


def record_of(node: Node) -> Record:
    """Return what is registered for a node."""
    return Record(name=SERVICE, version="latest", nodes=(node,))
