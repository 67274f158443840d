"""Following a registry: a watch that is begun again whenever it breaks, without a gap in what is told."""

from __future__ import annotations

import logging
import random as _random
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio
from msgspec.structs import replace

from micro_core.backoff import backoff
from micro_core.errors import RegistryError
from micro_core.registry import Change, ChangeKind, Record, Registry
from micro_core.tasks import OwnedTasks

__all__ = ["Follower"]

log = logging.getLogger("micro.registry")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds below which a watch that broke is begun again: the first time, and after many."""


class Follower:
    """Follows one service, or all: ``tell`` is called with every change, `SYNC` included.

    When a watch breaks, ``lost`` is called with its error, another is begun, and ``tell`` hears the difference: what is
    new, what is gone, and `SYNC` again. Neither function may wait, and what they raise ends the watch like an error of
    the registry's.

    What a watch that was begun again does not name has either gone or been lost with the registry's data. With a
    ``grace``, in seconds from `SYNC`, it is told as gone after that alone, for services that live register again
    meanwhile; what a watch says outright that is gone is told at once.
    """

    def __init__(
        self,
        registry: Registry,
        name: str | None,
        tell: Callable[[Change], object],
        lost: Callable[[Exception], object] = lambda error: None,
        *,
        grace: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._registry = registry
        self._name = name
        self._tell = tell
        self._report = lost
        self._grace = grace
        self._sleep = sleep
        self._random = random
        self._known: dict[tuple[str, str], Record] = {}
        """By service and node id, with that node alone."""
        self._stale: set[tuple[str, str]] = set()
        """Nodes known from before a break that the new watch has not confirmed yet."""
        self._syncing = True
        self._failures = 0

    def __repr__(self) -> str:
        state = "lost" if self._failures else "syncing" if self._syncing else "in sync"
        return f"<Follower of {self._subject} in {self._registry.name}, {state}, {len(self._known)} nodes>"

    @property
    def _subject(self) -> str:
        return "all services" if self._name is None else repr(self._name)

    def shows(self, name: str, id: str) -> Record | None:
        """Return the record of a node as the registry has told it last, with that node alone; None: it has none."""
        return self._known.get((name, id))

    async def run(self) -> NoReturn:
        """Follow until cancelled."""
        async with OwnedTasks() as timers:
            while True:
                try:
                    await self._watch(timers)
                except Exception as error:  # a plugin's or a library's, too: following never ends by itself
                    self._lost(error)
                await self._sleep(backoff(self._failures, self._random, first=FIRST_PAUSE, longest=LONGEST_PAUSE))

    async def _watch(self, timers: OwnedTasks) -> NoReturn:
        self._syncing, self._stale = True, set(self._known)
        async with self._registry.watch(self._name) as changes:
            async for change in changes:
                self._take(change)
                if change.kind is ChangeKind.SYNC and self._stale:
                    timers.start_soon(self._let_go, self._stale)
        raise RegistryError("the watch ended by itself, which a registry owes not to do")

    def _lost(self, error: Exception) -> None:
        self._failures += 1
        level = logging.DEBUG if self._failures > 1 else logging.WARNING  # one line for each break
        log.log(level, "registry %s is lost, following %s: %s", self._registry.name, self._subject, error)
        self._report(error)

    def _take(self, change: Change) -> None:
        if change.kind is ChangeKind.SYNC:
            self._sync(change)
            return
        for node in change.record.nodes:
            record = change.record if len(change.record.nodes) == 1 else replace(change.record, nodes=(node,))
            key = (record.name, node.id)
            if change.kind is ChangeKind.DELETE:
                self._remove(key, record)
            else:
                self._put(key, record, change.kind)

    def _sync(self, change: Change) -> None:
        if not self._grace:
            self._remove_stale()
        if self._failures:
            log.info("registry %s is back, following %s", self._registry.name, self._subject)
        self._syncing, self._failures = False, 0
        self._tell(change)

    async def _let_go(self, stale: set[tuple[str, str]]) -> None:
        """Remove the nodes that are still not confirmed after the grace, unless the watch has broken again."""
        await self._sleep(self._grace)
        if self._stale is stale and not self._failures:
            self._remove_stale()

    def _remove_stale(self) -> None:
        for key in list(self._stale):
            self._remove(key, self._known[key])

    def _put(self, key: tuple[str, str], record: Record, kind: ChangeKind) -> None:
        known = self._known.get(key)
        self._stale.discard(key)
        if self._syncing and known == record:
            return  # it was told before the break
        if known is not None and known.version != record.version:
            self._remove(key, known)
        self._known[key] = record
        self._tell(Change(kind=kind, record=record))

    def _remove(self, key: tuple[str, str], record: Record) -> None:
        known = self._known.get(key)
        if known is None or known.version == record.version:  # else it has moved on to another version
            self._known.pop(key, None)
            self._stale.discard(key)
            self._tell(Change(kind=ChangeKind.DELETE, record=known or record))
