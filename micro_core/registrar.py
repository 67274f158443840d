"""Keeping records in a registry: announced, renewed, and announced again when the registry has lost them."""

from __future__ import annotations

import logging
import math
import random as _random
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Self

import anyio

from micro_core.backoff import backoff
from micro_core.errors import ConfigError, RegistryError
from micro_core.follower import Follower
from micro_core.registry import Change, ChangeKind, Node, Record, Registry
from micro_core.tasks import OwnedTasks

__all__ = ["Registrar"]

log = logging.getLogger("micro.registry")

ANSWER_SECONDS = 5.0
"""How long a registry may take to register a record, or to take it back, before that counts as no answer."""
FIRST_PAUSE = 0.5
"""Seconds below which a registry that was down is tried again, by chance; doubled each time, up to the interval of
renewals."""
LOST_SECONDS = 0.25
"""A record that was lost is registered again after that long at most, by chance, so that not all come at once."""
LEAST_SECONDS = 0.5
"""That long after a registration the next may follow at the soonest, where a registry loses it at once each time."""
CONTESTED_SECONDS = 1.0
"""Another object's record of the same id is replaced after that long at most, by chance, so that two do not for ever
replace each other; doubled each time, up to the interval of renewals."""


class Registrar:
    """Keeps records in ``registry``, each for ``ttl`` seconds, renewed every ``interval``. An async context manager.

    It watches its own records: one that the registry has lost (a server that was emptied, a lease that ran out, a node
    that somebody else took back) is registered again within a second, however often; one that another object has
    replaced, with the same node id, ever more seldom while that one stays. A registry that is down is tried again,
    sooner than the interval and as soon as it is back; whatever it raises ends nothing. Losses and recoveries are
    logged.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        ttl: float = 60.0,
        interval: float = 30.0,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._registry = registry
        self._ttl = ttl
        self._interval = interval
        self._random = random
        self._tasks = OwnedTasks()
        self._kept: dict[tuple[str, str], Kept] = {}
        """By service and node id."""
        self._followed: dict[str, tuple[Follower, anyio.CancelScope]] = {}
        self._follows_network = False

    def __repr__(self) -> str:
        records = set(self._kept.values())
        lost = sum(kept.failures > 0 for kept in records)
        return f"<Registrar at {self._registry.name}, {len(records)} records, {lost} not registered>"

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Take back what is left, within some seconds for each record. Closing twice is fine."""
        for kept in set(self._kept.values()):
            await self.deregister(kept.record)
        await self._tasks.aclose()

    async def register(self, record: Record, as_it_is_now: Callable[[], Record] | None = None) -> None:
        """Register ``record`` and keep it so; again with the same first node it takes the place of the one before.

        ``as_it_is_now`` is asked at each renewal for the record with the same nodes, whose addresses may have changed.

        Returns when others can find it or, where the registry gives no answer, within some seconds: it is tried again.
        Raises `ConfigError` where it cannot be published, and `RegistryError` where waiting does not help.
        """
        kept = self._kept.get((record.name, record.nodes[0].id)) or Kept(record)
        kept.record, kept.as_it_is_now = record, as_it_is_now
        try:
            await self._announce(kept)
        except (ConfigError, RegistryError) as error:
            if isinstance(error, ConfigError) or error.permanent:
                raise
            self._failed(kept, error)
        except Exception as error:  # a plugin's, or of the library below
            self._failed(kept, error)
        self._kept.update({(record.name, node.id): kept for node in record.nodes})
        if as_it_is_now is not None and not self._follows_network:
            self._follows_network = True
            self._tasks.start_soon(self._follow_network)
        if not kept.keeping:
            kept.keeping = True
            self._tasks.start_soon(self._keep, kept)
            self._follow(record.name)

    async def deregister(self, record: Record) -> None:
        """Take ``record`` back, within some seconds; what the registry raises is logged: it runs out by itself.

        One that is not kept here is left alone.
        """
        kept = [found for node in record.nodes if (found := self._kept.pop((record.name, node.id), None))]
        if not kept:
            return
        if not any(name == record.name for name, _ in self._kept) and record.name in self._followed:
            self._followed.pop(record.name)[1].cancel()
        with anyio.move_on_after(ANSWER_SECONDS, shield=True) as bounded:
            for one in kept:
                one.scope.cancel()
                await one.ended.wait()
            try:
                await self._registry.deregister(record)
            except Exception as error:  # a plugin's
                log.warning("%s could not be taken back from registry %s: %s", record.name, self._registry.name, error)
        if bounded.cancelled_caught:
            log.warning("%s could not be taken back: registry %s hangs", record.name, self._registry.name)

    async def _announce(self, kept: Kept) -> None:
        """Register a record, bounded in time. Raises what the registry does."""
        with anyio.move_on_after(ANSWER_SECONDS):
            kept.update()
            kept.announced.update((kept.record.version, node.address) for node in kept.record.nodes)
            await self._registry.register(kept.record, ttl=self._ttl)
            if kept.failures or kept.lost:
                log.info("%s is registered in registry %s again", kept.record.name, self._registry.name)
            kept.failures, kept.lost, kept.registered_at = 0, False, anyio.current_time()
            return
        raise RegistryError(f"registry {self._registry.name} has not answered in {ANSWER_SECONDS:.0f} s")

    async def _keep(self, kept: Kept) -> None:
        try:
            with kept.scope:
                while True:
                    await self._wait(kept)
                    try:
                        await self._announce(kept)
                    except Exception as error:  # a plugin's, or of the library below: renewing goes on
                        self._failed(kept, error)
        finally:
            kept.ended.set()

    async def _wait(self, kept: Kept) -> None:
        """Wait for the interval to pass, or for the record to be lost."""
        with anyio.move_on_after(kept.retry_after if kept.failures else self._interval):
            await kept.due.wait()
        if kept.due.is_set():
            soonest = kept.registered_at + LEAST_SECONDS - anyio.current_time()
            await anyio.sleep(max(soonest, 0.0) + self._random() * LOST_SECONDS)
            if self._is_replaced(kept):
                await self._let_another_be(kept)
        else:
            kept.contests = 0
        kept.due = anyio.Event()

    async def _let_another_be(self, kept: Kept) -> None:
        """Wait before another's record is replaced in its turn, or until that one is gone."""
        kept.contests += 1
        kept.vacant = anyio.Event()
        with anyio.move_on_after(backoff(kept.contests, self._random, first=CONTESTED_SECONDS, longest=self._interval)):
            await kept.vacant.wait()

    def _failed(self, kept: Kept, error: Exception) -> None:
        kept.failures += 1
        kept.retry_after = backoff(kept.failures, self._random, first=FIRST_PAUSE, longest=self._interval)
        permanent = isinstance(error, RegistryError) and error.permanent
        level = logging.ERROR if permanent else logging.WARNING if kept.failures == 1 else logging.DEBUG
        log.log(
            level,
            "%s is not registered in registry %s, next try in %.1f s: %s",
            kept.record.name,
            self._registry.name,
            kept.retry_after,
            error,
        )

    async def _follow_network(self) -> None:
        """Register what is told by an address that has changed at once, where the system tells of it."""
        from micro_core.network_interfaces import changes  # sockets, which whoever imports the core asks for later

        async with aclosing(changes()) as told:
            async for _ in told:
                for kept in set(self._kept.values()):
                    if kept.is_outdated:
                        kept.due.set()

    def _follow(self, name: str) -> None:
        if name not in self._followed:
            follower = Follower(self._registry, name, partial(self._told, name), random=self._random)
            self._followed[name] = follower, anyio.CancelScope()
            self._tasks.start_soon(self._run, *self._followed[name])

    async def _run(self, follower: Follower, scope: anyio.CancelScope) -> None:
        with scope:
            await follower.run()

    def _told(self, service: str, change: Change) -> None:
        if change.kind is ChangeKind.SYNC:
            for kept in {kept for (name, _), kept in self._kept.items() if name == service}:
                self._check_shown(kept)
            return
        for node in change.record.nodes:
            own = self._kept.get((service, node.id))
            if own is None:
                continue
            if change.kind is ChangeKind.DELETE:
                self._deleted(own, change.record)
            else:
                self._check_alone(own, node)

    def _check_shown(self, kept: Kept) -> None:
        """Register at once what failed, for the registry answers again, and what it has never told of."""
        if kept.failures:
            kept.due.set()
        elif any(shown is None for shown in self._shown(kept)):
            log.debug("registry %s does not tell of %s", self._registry.name, kept.record.name)
            kept.due.set()

    def _shown(self, kept: Kept) -> list[Record | None]:
        """Return what the registry has under the ids of a record's nodes."""
        if kept.record.name not in self._followed:
            return []
        follower, _ = self._followed[kept.record.name]
        return [follower.shows(kept.record.name, node.id) for node in kept.record.nodes]

    def _check_alone(self, kept: Kept, node: Node) -> None:
        """Warn, once, where a node of another process has the id of ours."""
        if not kept.contested and all(address != node.address for _, address in kept.announced):
            kept.contested = True
            log.warning(
                "node %s of %s is announced at %s by another process: two have one id",
                node.id,
                kept.record.name,
                node.address,
            )

    def _deleted(self, kept: Kept, record: Record) -> None:
        """Have a record registered again that is gone, whoever of those who have its id it was that left."""
        kept.vacant.set()
        if record.version == kept.record.version and not kept.due.is_set():
            kept.lost = True
            log.warning("registry %s has lost %s: registering it again", self._registry.name, kept.record.name)
        if record.version == kept.record.version or self._is_anothers(kept, record):
            kept.due.set()

    def _is_replaced(self, kept: Kept) -> bool:
        """Return whether the registry has another's node under the id of one of ours."""
        return any(shown is not None and self._is_anothers(kept, shown) for shown in self._shown(kept))

    def _is_anothers(self, kept: Kept, record: Record) -> bool:
        return all((record.version, node.address) not in kept.announced for node in record.nodes)


class Kept:
    """A record that is to be in the registry, and the state of its registration."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.as_it_is_now: Callable[[], Record] | None = None
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self.due = anyio.Event()
        """Set when there is no time to wait for the interval."""
        self.failures = 0
        """Consecutive failures; 0: it is registered."""
        self.retry_after = 0.0
        """Seconds from the latest failure to the next try."""
        self.announced: set[tuple[str, str]] = set()
        """The versions and addresses that it has had: what the registry shows with others is another's."""
        self.lost = False
        """Whether the registry has lost it since it was registered last."""
        self.registered_at = -math.inf
        """When it was registered last, on the event loop's clock."""
        self.contests = 0
        """How often another has replaced it since it was last renewed on schedule."""
        self.vacant = anyio.Event()
        """Set when what the registry had under its ids is gone."""
        self.keeping = False
        self.contested = False

    @property
    def is_outdated(self) -> bool:
        """Whether the record says what is no longer true."""
        return self.as_it_is_now is not None and self.as_it_is_now() != self.record

    def update(self) -> None:
        """Have the record say what is true now; an address that has changed is logged."""
        if self.as_it_is_now is None:
            return
        before, self.record = self.record, self.as_it_is_now()
        for old, new in zip(before.nodes, self.record.nodes, strict=True):
            if old.address != new.address:
                log.info("%s is at %s now, no longer at %s", self.record.name, new.address, old.address)
