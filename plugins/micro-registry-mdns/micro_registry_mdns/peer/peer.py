"""The registry's part that lives in its thread: hears, asks, remembers and tells watchers, all in its loop."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import socket
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any

from micro_core import SYNC, Change, DecodeError, Record, RegistryError
from micro_registry_mdns.net.interfaces import Locality
from micro_registry_mdns.net.pacing import Address, PacedSender
from micro_registry_mdns.net.sockets import Sockets
from micro_registry_mdns.peer.catalogue import Catalogue
from micro_registry_mdns.peer.door import Budget, Door, Network
from micro_registry_mdns.peer.publication import Publication
from micro_registry_mdns.peer.publisher import Publisher
from micro_registry_mdns.wire import dns, dnssd, gomicro, txt
from micro_registry_mdns.wire.sighting import LIFETIME, Sighting

__all__ = ["Deliver", "Peer", "host_name"]

_log = logging.getLogger("micro.registry.mdns")

Deliver = Callable[[Change], None]

_OWN = "own"
_ASK_AGAIN_AFTER = 0.1
_ASK_UNKNOWN_AGAIN_AFTER = (0.35, 0.7)
"""Seconds after the first question at which a watched service that nobody has answered for is asked for again."""
_REFRESH = LIFETIME / 3
_ANSWERS_WITHIN = 0.25
"""Seconds in which a node that somebody has said goodbye for may say that it is still there."""
_SWEEP = 5.0
_MAX_LISTED = 1_000


def host_name() -> str:
    """Return this machine's name as Go Micro writes it: as it is, with a dot (docs/wire.md §1.1)."""
    name = socket.gethostname().strip(".") + "."
    return name if dns.is_name(name) else "localhost."


class Peer:
    """One party on the multicast group."""

    def __init__(
        self,
        interfaces: Sequence[str],
        dialects: Collection[str],
        timeout: float,
        interfaces_now: Callable[[], Sequence[str]] | None = None,
        networks: Sequence[Network] = (),
    ) -> None:
        """Speak on ``interfaces``, and on those of ``interfaces_now`` whenever they have changed."""
        self._tried = frozenset(interfaces)
        self._interfaces_now = interfaces_now
        self._moving = asyncio.Lock()
        self._dialects = dialects
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._catalogue = Catalogue()
        locality = Locality()
        self._door = Door(locality, networks, time=self._loop.time)
        self._budget = Budget(locality)
        self._doubted: set[tuple[str, str]] = set()
        """Nodes of which somebody has said goodbye, and that have been asked whether that is so."""
        self._dnssd = dnssd.Reader()
        self._watchers: dict[Deliver, str | None] = {}
        self._listed: dict[str, float] = {}
        """Names of services, and when the listing last had them."""
        self._ends: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._paced = PacedSender()
        self._sockets = Sockets(interfaces, self._heard, self._answered)
        self._publisher = Publisher(self._sockets, self._paced, host_name())
        self._timers = [
            self._loop.call_later(_SWEEP, self._sweep),
            self._loop.call_later(_REFRESH, self._refresh),
        ]
        if self._sockets.why_deaf:
            _log.warning("multicast DNS can look up but not publish or watch: %s", self._sockets.why_deaf)

    def __repr__(self) -> str:
        return f"<Peer {self._sockets!r}>"

    # --------------------------------------------------------------------------------------------- publishing

    async def publish(self, publications: Sequence[Publication], ttl: float) -> None:
        """Publish nodes, or what changed of them, until ``ttl`` seconds have passed. Raises `RegistryError`."""
        await self._follow_interfaces()
        for publication in publications:
            await self._publisher.put(publication, anew=not self._catalogue.knows(*publication.key))
            self._end_after(ttl, publication.key)
            own = Sighting(dialect=_OWN, record=publication.record, ttl=math.inf)
            self._tell(self._catalogue.add(own, self._loop.time()))

    async def withdraw(self, keys: Sequence[tuple[str, str]]) -> None:
        """Take nodes of this registry back; others are left alone."""
        own = [key for key in keys if self._publisher.publishes(key)]
        await self._publisher.remove(own)
        for key in own:
            self._end_after(0, key)
            self._tell(self._catalogue.remove(*key))

    def _end_after(self, ttl: float, key: tuple[str, str]) -> None:
        """Withdraw a node after ``ttl`` seconds in place of whatever end it had; 0: at no time."""
        if (before := self._ends.pop(key, None)) is not None:
            before.cancel()
        if ttl > 0:
            self._ends[key] = self._loop.call_later(ttl, self._end, key)

    def _end(self, key: tuple[str, str]) -> None:
        _log.warning("node %s of service %s was not renewed in time and is withdrawn", key[1], key[0])
        self._start(self.withdraw([key]))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("work of the mdns registry failed", exc_info=error)

    async def _follow_interfaces(self) -> None:
        """Speak where there are networks now: they come, go and change their addresses."""
        async with self._moving:
            now = frozenset(self._interfaces_now()) if self._interfaces_now is not None else self._tried
            if now == self._tried:
                return
            try:
                sockets = Sockets(sorted(now), self._heard, self._answered)
            except RegistryError as error:
                _log.debug("%s", error)
                return
            self._tried = now
            before, self._sockets = self._sockets, sockets
            before.close()
            _log.info("multicast DNS is spoken on %s now", ", ".join(sockets.interfaces))
            await self._publisher.move(sockets)
            for service in set(self._watchers.values()):
                self._ask_for_watched(service)

    # ------------------------------------------------------------------------------------------------- asking

    async def lookup(self, service: str) -> list[Record]:
        """Return the nodes of a service that answer within the listening time, and this registry's own."""
        asked = self._loop.time()
        self._ask(service)
        await self._listen(service)
        return self._catalogue.records(service, asked)

    async def _listen(self, service: str) -> None:
        """Let answers come in, and ask once more meanwhile: a datagram may be lost on its way."""
        if self._timeout > _ASK_AGAIN_AFTER:
            await asyncio.sleep(_ASK_AGAIN_AFTER)
            self._ask(service)
        await asyncio.sleep(max(self._timeout - _ASK_AGAIN_AFTER, 0) or self._timeout)
        self._sockets.drain()

    async def services(self) -> list[str]:
        """Return the names of all services that answer, or are this registry's own."""
        asked = self._loop.time()
        self._ask_for_all()
        await asyncio.sleep(self._timeout)
        listed = {name for name, heard in self._listed.items() if heard >= asked}
        return sorted(listed | self._catalogue.services_since(asked))

    async def watch(self, service: str | None, deliver: Deliver) -> None:
        """Tell ``deliver`` what there is of a service (of all: None), `SYNC`, and from then on what changes."""
        if not self._is_watched(service):
            self._catalogue.forget(service)  # who went meanwhile was told to nobody; who is there answers
        self._watchers[deliver] = service
        for change in self._catalogue.changes_to_now(service):
            deliver(change)
        self._ask_for_watched(service)
        if service is not None:
            self._loop.call_later(_ASK_AGAIN_AFTER, self._ask_again, deliver, service)
            for seconds in _ASK_UNKNOWN_AGAIN_AFTER:
                self._loop.call_later(seconds, self._ask_if_unknown, deliver, service)
        self._loop.call_later(self._timeout, self._sync, deliver)

    def _is_watched(self, service: str | None) -> bool:
        return None in self._watchers.values() or service in self._watchers.values()

    def _ask_again(self, deliver: Deliver, service: str) -> None:
        """Ask once more: a datagram may be lost on its way."""
        if deliver in self._watchers:
            self._ask(service)

    def _ask_if_unknown(self, deliver: Deliver, service: str) -> None:
        if not self._catalogue.records(service):
            self._ask_again(deliver, service)

    def _sync(self, deliver: Deliver) -> None:
        """Say that the listening time is over."""
        self._sockets.drain()
        if deliver in self._watchers:
            deliver(SYNC)

    def unwatch(self, deliver: Deliver) -> None:
        """Tell ``deliver`` no more."""
        self._watchers.pop(deliver, None)

    async def close(self) -> None:
        """Say goodbye and close everything."""
        self._watchers.clear()
        for timer in (*self._timers, *self._ends.values()):
            timer.cancel()
        for task in list(self._working):
            task.cancel()
        try:
            await self._publisher.close()
        finally:
            self._paced.close()
            self._sockets.close()

    def _ask(self, service: str) -> None:
        if gomicro.DIALECT in self._dialects and dns.is_name(f"{service}.micro."):
            self._send(gomicro.query(service, _id()))
        self._ask_dnssd(service)

    def _ask_for_all(self) -> None:
        if gomicro.DIALECT in self._dialects:
            self._send(gomicro.listing_query(_id()))
        self._ask_dnssd()

    def _ask_for_watched(self, service: str | None) -> None:
        if service is None:
            self._listed.clear()
            self._ask_for_all()
        else:
            self._ask(service)

    def _ask_dnssd(self, service: str | None = None) -> None:
        if dnssd.DIALECT in self._dialects:
            self._send(dnssd.query(_id(), service))

    def _send(self, packet: bytes) -> None:
        self._sockets.ask(packet, self._paced)

    # ------------------------------------------------------------------------------------------------ hearing

    def _heard(self, packet: bytes, sender: Address) -> None:
        """Take what was sent to the group: questions, announcements, goodbyes."""
        try:
            message = dns.decode(packet)
            if message.is_response:
                self._read(message, sender[0])
            else:
                self._publisher.answer(message, sender)
        except DecodeError as error:
            _log.debug("a malformed datagram from %s: %s", sender[0], error)
        except Exception:
            _log.exception("a datagram from %s could not be handled", sender[0])

    def _answered(self, packet: bytes, sender: Address) -> None:
        """Take what came to one of the ports that we ask from."""
        try:
            message = dns.decode(packet)
            if message.is_response:
                self._read(message, sender[0])
                self._take_listed(gomicro.listed(message))
        except DecodeError as error:
            _log.debug("a malformed answer from %s: %s", sender[0], error)
        except Exception:
            _log.exception("an answer from %s could not be handled", sender[0])

    def _read(self, message: dns.Message, sender: str) -> None:
        if not message.is_plain:
            return
        now = self._loop.time()
        quota = txt.Quota(self._budget.left(sender, now, txt.MAX_DOCUMENT))
        if gomicro.DIALECT in self._dialects:
            self._take(gomicro.read(message, quota), sender, now)
        if dnssd.DIALECT in self._dialects:
            self._take(self._dnssd.read(message, now, quota), sender, now)
        self._budget.spend(sender, now, quota.spent)

    def _take(self, sightings: Iterable[Sighting], sender: str, now: float) -> None:
        for sighting in sightings:
            if not sighting.ttl:
                self._doubt(sighting, now)
                continue
            why_not = self._door.refuses(sender, sighting.record.nodes[0].address)
            if why_not:
                _log.debug("%s told of %r, which is %s", sender, sighting.record.nodes[0].address, why_not)
                continue
            self._tell(self._catalogue.add(replace(sighting, sender=sender), now))

    def _doubt(self, goodbye: Sighting, now: float) -> None:
        """Believe in a goodbye once the node does not answer: anybody can say one. What nobody watches just goes."""
        service, id_ = goodbye.key
        if not self._is_watched(service):
            self._tell(self._catalogue.add(goodbye, now))
        elif self._catalogue.heard_at(service, id_) > -math.inf and goodbye.key not in self._doubted:
            if all(service != doubted for doubted, _ in self._doubted):
                self._ask(service)
            self._doubted.add(goodbye.key)
            self._loop.call_later(min(self._timeout, _ANSWERS_WITHIN), self._decide, goodbye.key, now)

    def _decide(self, key: tuple[str, str], then: float) -> None:
        """Forget a node that has not answered since somebody said goodbye for it."""
        self._doubted.discard(key)
        self._sockets.drain()
        if not self._sockets.is_closed and self._catalogue.heard_at(*key) <= then:
            self._tell(self._catalogue.remove(*key))

    def _take_listed(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._listed and None in self._watchers.values() and gomicro.DIALECT in self._dialects:
                self._send(gomicro.query(name, _id()))
            if name in self._listed or len(self._listed) < _MAX_LISTED:
                self._listed[name] = self._loop.time()

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            for deliver, service in list(self._watchers.items()):
                if service in (None, change.record.name):
                    deliver(change)

    # ------------------------------------------------------------------------------------------------- timers

    def _sweep(self) -> None:
        now = self._loop.time()
        self._tell(self._catalogue.expire(now))
        self._listed = {name: heard for name, heard in self._listed.items() if now - heard < LIFETIME}
        self._timers[0] = self._loop.call_later(_SWEEP, self._sweep)
        self._start(self._follow_interfaces())

    def _refresh(self) -> None:
        """Ask again for what is watched, so that nodes which went without a goodbye are told from those still there."""
        for service in set(self._watchers.values()):
            self._ask_for_watched(service)
        self._timers[1] = self._loop.call_later(_REFRESH, self._refresh)


def _id() -> int:
    return random.randint(1, 0xFFFF)
