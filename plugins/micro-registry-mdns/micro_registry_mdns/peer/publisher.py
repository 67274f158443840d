"""Publishes nodes in both dialects: answers, announcements, goodbyes. Runs in the loop of the registry's thread."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator, Sequence

from micro_core import RegistryError
from micro_registry_mdns.net.interfaces import Locality
from micro_registry_mdns.net.pacing import Address, PacedSender
from micro_registry_mdns.net.sockets import Sockets
from micro_registry_mdns.peer import bonjour
from micro_registry_mdns.peer.publication import Publication
from micro_registry_mdns.wire import dns, dnssd, gomicro

__all__ = ["Publisher"]

_ANNOUNCED_AFTER = (0.0, 1.0, 3.0)  # docs/wire.md §1.8
_GOODBYES_AFTER = (0.0, 0.1, 0.3)
_LAST_GOODBYES_AFTER = (0.05, 0.1)


class Publisher:
    """What this registry publishes."""

    def __init__(self, sockets: Sockets, paced: PacedSender, host: str) -> None:
        self._sockets = sockets
        self._paced = paced
        self._zone = gomicro.Zone(host)
        self._locality = Locality()
        self._responder = bonjour.Responder(sockets.interfaces)
        self._published: dict[tuple[str, str], Publication] = {}
        self._by_subtype: dict[str, dict[tuple[str, str], Publication]] = {}
        """Those that DNS-SD shows, by the name that asks for a service's nodes."""
        self._timers: dict[tuple[str, str], list[asyncio.TimerHandle]] = {}
        self._gone: dict[tuple[str, str], gomicro.Entry] = {}
        """Entries whose goodbyes are still being said."""
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    async def put(self, publication: Publication, *, anew: bool = False) -> bool:
        """Publish a node and return whether anything was said.

        With ``anew`` it is announced though nothing has changed: somebody took it back. Raises `RegistryError`.
        """
        if self._sockets.why_deaf:
            raise RegistryError(
                f"multicast DNS cannot publish: port 5353 cannot be bound ({self._sockets.why_deaf}); "
                "another responder holds it alone, or the process may not: looking up still works"
            )
        async with self._turn:
            before = self._published.get(publication.key)
            if before == publication and not anew:
                return False
            if publication.entry is not None:
                self._zone.put(publication.entry)
                self._repeat(publication.key, publication.entry, gomicro.announcement, _ANNOUNCED_AFTER)
            self._gone.pop(publication.key, None)
            self._published[publication.key] = publication
            await self._put_dnssd(publication, before)
            return True

    def publishes(self, key: tuple[str, str]) -> bool:
        """Return whether a node, service and id, is published here."""
        return key in self._published

    async def move(self, sockets: Sockets) -> None:
        """Go on publishing through other sockets, to networks that may not know of anything yet."""
        async with self._turn:
            self._sockets = sockets
            before, self._responder = self._responder, bonjour.Responder(sockets.interfaces)
            await before.stop()
            for publication in self._published.values():
                if publication.entry is not None:
                    self._repeat(publication.key, publication.entry, gomicro.announcement, _ANNOUNCED_AFTER)
                await self._put_dnssd(publication, None)

    async def remove(self, keys: Sequence[tuple[str, str]]) -> None:
        """Take nodes back; the first goodbyes have left when this returns."""
        async with self._turn:
            for key in keys:
                self._remove(key)

    def answer(self, message: dns.Message, asker: Address) -> None:
        """Answer a question of Go Micro's dialect, and one for a single service in DNS-SD; others are zeroconf's."""
        if self._published:
            local = self._locality.is_local(asker[0])
            for packet in self._zone.answers(message, port=asker[1], local=local):
                self._sockets.answer(packet, asker, self._paced)
            for packet in self._dnssd_answers(message, port=asker[1], local=local):
                self._sockets.answer(packet, asker, self._paced)

    def _dnssd_answers(self, message: dns.Message, *, port: int, local: bool) -> Iterator[bytes]:
        """Return a packet for each node of the services asked for."""
        for question in gomicro.questions(message, port):
            if question.type in (dns.PTR, dns.ANY):
                for known in self._by_subtype.get(question.name, {}).values():
                    if local or not ipaddress.ip_address(known.address).is_loopback:
                        yield dnssd.answer(question, message.id, known.label, known.address, known.port, known.text)

    async def close(self) -> None:
        """Say goodbye for what is left."""
        async with self._turn:
            for key in list(self._published):
                self._remove(key)
            await asyncio.gather(self._responder.close(), self._say_last_goodbyes())
            self._silence_all()

    async def _put_dnssd(self, publication: Publication, before: Publication | None) -> None:
        if before is not None and before.label and before.label != publication.label:
            self._responder.remove(before.label)
        self._forget_subtype(publication)
        if not publication.label:
            return
        self._by_subtype.setdefault(dnssd.subtype(publication.record.name), {})[publication.key] = publication
        try:
            await self._responder.put(
                bonjour.Instance(
                    label=publication.label,
                    address=publication.address,
                    port=publication.port,
                    text=publication.text,
                )
            )
        except OSError as error:
            raise RegistryError(f"multicast DNS cannot publish over DNS-SD: {error}") from error

    def _forget_subtype(self, publication: Publication) -> None:
        name = dnssd.subtype(publication.record.name)
        known = self._by_subtype.get(name, {})
        known.pop(publication.key, None)
        if not known:
            self._by_subtype.pop(name, None)

    def _remove(self, key: tuple[str, str]) -> None:
        publication = self._published.pop(key, None)
        if publication is None:
            return
        if publication.entry is not None:
            self._zone.remove(publication.entry)
        self._forget_subtype(publication)
        if publication.label:
            self._responder.remove(publication.label)
        if publication.entry is not None:
            self._gone[key] = publication.entry
            self._repeat(key, publication.entry, gomicro.goodbye, _GOODBYES_AFTER)
            self._timers[key].append(self._loop.call_later(_GOODBYES_AFTER[-1], self._gone.pop, key, None))

    def _repeat(
        self,
        key: tuple[str, str],
        entry: gomicro.Entry,
        make: Callable[[gomicro.Entry], bytes],
        delays: Sequence[float],
    ) -> None:
        """Send to the group after each delay; replaces what was to be said of this node before."""
        self._silence(key)
        packet = make(entry)

        def send() -> None:
            self._sockets.announce(packet, self._paced, loopback_only=entry.is_loopback)

        send()
        self._timers[key] = [self._loop.call_later(delay, send) for delay in delays[1:]]

    async def _say_last_goodbyes(self) -> None:
        if not self._gone:
            return
        self._silence_all()
        start = self._loop.time()
        for delay in _LAST_GOODBYES_AFTER:
            await asyncio.sleep(start + delay - self._loop.time())
            for entry in self._gone.values():
                self._sockets.announce(gomicro.goodbye(entry), self._paced, loopback_only=entry.is_loopback)

    def _silence(self, key: tuple[str, str]) -> None:
        for timer in self._timers.pop(key, ()):
            timer.cancel()

    def _silence_all(self) -> None:
        for key in list(self._timers):
            self._silence(key)
