"""What client and server say to each other: JSON, a line each.

A client sends one `Request` on a connection of its own. The answer is one `Answer`; of a watch it is changes without
end, and an empty `Answer` every `HEARTBEAT_SECONDS`, so that silence can be told from nothing to say.
"""

from __future__ import annotations

from typing import Any, TypeVar

import anyio
import msgspec
from anyio.abc import ByteStream

from micro_core import Change, Record

__all__ = ["HEARTBEAT_SECONDS", "Answer", "Latest", "Lines", "Request"]

HEARTBEAT_SECONDS = 0.5
LONGEST_LINE = 1024 * 1024

Line = TypeVar("Line")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a client wants: to ``register``, ``deregister``, ``leave`` or ``watch``."""

    do: str
    space: str
    owner: str
    secret: str = ""
    record: Record | None = None
    ttl: float = 0.0
    name: str | None = None
    """The service to watch; None for all."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How it went, or one change of a watch."""

    error: str = ""
    permanent: bool = False
    change: Change | None = None


class Lines:
    """A connection on which each line is a message."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._read = b""

    async def send(self, message: Request | Answer) -> None:
        """Send a message. Raises what anyio's streams raise."""
        await self._stream.send(msgspec.json.encode(message) + b"\n")

    async def receive(self, type: type[Line]) -> Line:
        """Return the next message. Raises what anyio's streams raise, and ValueError for what is none."""
        while b"\n" not in self._read:
            if len(self._read) > LONGEST_LINE:
                raise ValueError(f"a line of more than {LONGEST_LINE} bytes")
            self._read += await self._stream.receive()
        line, _, self._read = self._read.partition(b"\n")
        return msgspec.json.decode(line, type=type)

    async def aclose(self) -> None:
        """Let go of the connection, whether or not the peer takes part."""
        await anyio.aclose_forcefully(self._stream)


class Latest:
    """Changes on their way to a slow reader, who gets the latest of each node, and an error when all else is told."""

    def __init__(self) -> None:
        self._changes: dict[Any, Change] = {}
        self._error: Exception | None = None
        self._moved = anyio.Event()

    def put(self, change: Change) -> None:
        """Take a change; it goes in the place of an older one of its node."""
        self._changes[change.kind == "sync", change.record.version, change.record.name, ids(change)] = change
        self._wake()

    def fail(self, error: Exception) -> None:
        """Have reading raise ``error``; the first stays."""
        self._error = self._error or error
        self._wake()

    def _wake(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    def __aiter__(self) -> Latest:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            if self._error is not None:
                raise self._error
            await self._moved.wait()
        return self._changes.pop(next(iter(self._changes)))


def ids(change: Change) -> tuple[str, ...]:
    """Return the ids of the nodes of a change."""
    return tuple(node.id for node in change.record.nodes)
