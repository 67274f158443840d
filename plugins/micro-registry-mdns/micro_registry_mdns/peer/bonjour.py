"""Publishes nodes as DNS-SD through python-zeroconf's engine; runs in the loop of the registry's thread.

There is one engine for loopback and one for all other interfaces: an engine tells everything to everybody it hears, and
nodes on loopback concern this machine only (docs/wire.md §11.1).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from micro_registry_mdns.net.confinement import confine_to_loopback, confine_to_memberships
from micro_registry_mdns.wire.dnssd import SERVICE_TYPE
from micro_registry_mdns.wire.sighting import LIFETIME

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, Zeroconf

__all__ = ["Instance", "Responder"]

_log = logging.getLogger("micro.registry.mdns")

_GOODBYES = 3
_BETWEEN_GOODBYES = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One node as DNS-SD shows it (docs/protocol.md §6)."""

    label: str
    address: str
    port: int
    text: bytes

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine may hear of it."""
        return ipaddress.ip_address(self.address).is_loopback


@dataclass(slots=True, eq=False)
class _Engine:
    zeroconf: Zeroconf
    said: dict[str, asyncio.Future[object]] = field(default_factory=dict)
    """For each label, what is still being said of it: announcements or goodbyes."""
    infos: dict[str, ServiceInfo] = field(default_factory=dict)

    async def put(self, instance: Instance) -> None:
        info = _info(instance)
        self._hush(instance.label)
        if instance.label in self.infos:
            saying = await self.zeroconf.async_update_service(info)
        else:
            saying = await self.zeroconf.async_register_service(info, cooperating_responders=True, strict=False)
        self.infos[instance.label] = info
        self._say(instance.label, saying)

    def remove(self, label: str) -> None:
        info = self.infos.pop(label, None)
        if info is not None:
            self._hush(label)
            self.zeroconf.registry.async_remove(info)
            self._goodbye(info)
            self._say(label, asyncio.ensure_future(self._more_goodbyes(info)))

    async def stop(self) -> None:
        """Stop without a goodbye."""
        for label in list(self.said):
            self._hush(label)
        for info in self.infos.values():
            self.zeroconf.registry.async_remove(info)
        self.infos.clear()
        await self.close()

    async def close(self) -> None:
        from zeroconf.asyncio import AsyncZeroconf

        for label in list(self.infos):
            self.remove(label)
        if self.said:
            await asyncio.wait(self.said.values(), timeout=1)
        for label in list(self.said):
            self._hush(label)
        await AsyncZeroconf(zc=self.zeroconf).async_close()

    def _goodbye(self, info: ServiceInfo) -> None:
        self.zeroconf.async_send(self.zeroconf.generate_service_broadcast(info, 0))

    async def _more_goodbyes(self, info: ServiceInfo) -> None:
        for _ in range(_GOODBYES - 1):
            await asyncio.sleep(_BETWEEN_GOODBYES)
            self._goodbye(info)

    def _say(self, label: str, saying: Awaitable[object]) -> None:
        future = self.said[label] = asyncio.ensure_future(saying)
        future.add_done_callback(lambda done: self._ended(label, done))

    def _hush(self, label: str) -> None:
        if (saying := self.said.pop(label, None)) is not None:
            saying.cancel()

    def _ended(self, label: str, saying: asyncio.Future[object]) -> None:
        if self.said.get(label) is saying:
            del self.said[label]
        if not saying.cancelled() and (error := saying.exception()) is not None:
            _log.warning("announcing %s over DNS-SD failed: %s", label, error)


class Responder:
    """The engines, started when the first node needs them."""

    def __init__(self, interfaces: Sequence[str]) -> None:
        self._loopback = [address for address in interfaces if address.startswith("127.")]
        self._outer = [address for address in interfaces if not address.startswith("127.")]
        self._engines: dict[bool, _Engine] = {}
        self._starting = asyncio.Lock()

    async def put(self, instance: Instance) -> None:
        """Publish an instance, or what changed of it; returns when it is answered for. Raises `OSError`."""
        if instance.is_loopback and False in self._engines:
            self._engines[False].remove(instance.label)
        for engine in await self._engines_for(loopback_only=instance.is_loopback):
            await engine.put(instance)

    def remove(self, label: str) -> None:
        """Take an instance back; the first goodbye has left when this returns."""
        for engine in self._engines.values():
            engine.remove(label)

    async def stop(self) -> None:
        """Stop the engines without a goodbye: what they told goes on being true."""
        await asyncio.gather(*(engine.stop() for engine in self._engines.values()))
        self._engines.clear()

    async def close(self) -> None:
        """Say goodbye for what is left and stop the engines."""
        await asyncio.gather(*(engine.close() for engine in self._engines.values()))
        self._engines.clear()

    async def _engines_for(self, *, loopback_only: bool) -> list[_Engine]:
        wanted = [(True, self._loopback), (False, [] if loopback_only else self._outer)]
        async with self._starting:
            for loopback, interfaces in wanted:
                if interfaces and loopback not in self._engines:
                    self._engines[loopback] = await _start(interfaces, loopback=loopback)
        return [self._engines[loopback] for loopback, interfaces in wanted if interfaces]


async def _start(interfaces: list[str], *, loopback: bool) -> _Engine:
    from zeroconf import IPVersion, Zeroconf  # publishing needs it, looking up does not

    zeroconf = Zeroconf(interfaces=interfaces, ip_version=IPVersion.V4Only)
    await zeroconf.async_wait_for_start()
    for transport in (*zeroconf.engine.readers, *zeroconf.engine.senders):
        _confine(transport.sock, loopback=loopback)
    return _Engine(zeroconf)


def _confine(sock: socket.socket, *, loopback: bool) -> None:
    """Let a socket hear only the interfaces that it joined, and one for loopback nothing else at all."""
    confine_to_memberships(sock)
    if loopback:
        confine_to_loopback(sock)


def _info(instance: Instance) -> ServiceInfo:
    from zeroconf import ServiceInfo

    return ServiceInfo(
        SERVICE_TYPE,
        f"{instance.label}.{SERVICE_TYPE}",
        port=instance.port,
        properties=instance.text,
        server=f"{instance.label}.local.",
        parsed_addresses=[instance.address],
        host_ttl=LIFETIME,
        other_ttl=LIFETIME,
    )
