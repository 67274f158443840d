"""The nodes in a memory network, and the watches of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

import anyio
import anyio.lowlevel

from micro_core.registry import SYNC, Change, Record

__all__ = ["NodeKey", "Published", "Watcher", "key_of"]

NodeKey: TypeAlias = tuple[str, str]
"""A service's name and a node's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A node as it was registered."""

    record: Record
    """With this node alone."""
    owner: object
    """The registry that it was registered with, and that alone takes it back."""
    expires: float


def key_of(record: Record) -> NodeKey:
    """Return the key of the one node in ``record``."""
    return record.name, record.nodes[0].id


class Watcher(AsyncIterator[Change]):
    """One watch and what it has not read yet: the last change of every node, however slow the reader.

    `SYNC` comes when a reader has, for the first time, read all there was.
    """

    def __init__(
        self, service: str | None, prepare: Callable[[], None], seconds_to_expiry: Callable[[], float]
    ) -> None:
        self.service = service
        self._prepare = prepare
        self._seconds_to_expiry = seconds_to_expiry
        self._unread: dict[tuple[NodeKey, str], Change] = {}
        self._synced = False
        self._woken = anyio.Event()

    def put(self, change: Change) -> None:
        """Add a change; it replaces an unread one of the same node and version."""
        key = key_of(change.record), change.record.version
        self._unread.pop(key, None)
        self._unread[key] = change
        self.wake()

    def wake(self) -> None:
        """Have a reader that waits look again."""
        self._woken.set()
        self._woken = anyio.Event()

    async def __anext__(self) -> Change:
        if self._synced:  # what was there is read in one go: whoever waits for a node has all of them to choose from
            await anyio.lowlevel.checkpoint()
        self._prepare()
        while not self._unread:
            if not self._synced:
                self._synced = True
                return SYNC
            with anyio.move_on_after(self._seconds_to_expiry()):
                await self._woken.wait()
            self._prepare()
        return self._unread.pop(next(iter(self._unread)))
