"""The registry over multicast DNS: what a service and its clients see of it."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar, Self

import anyio

from micro_core import Change, Closed, ConfigError, Record, Registry
from micro_registry_mdns.bridge import Mailbox, Thread
from micro_registry_mdns.net.interfaces import addresses
from micro_registry_mdns.peer.door import network
from micro_registry_mdns.peer.peer import Peer, host_name
from micro_registry_mdns.peer.publication import publications
from micro_registry_mdns.wire import dnssd, gomicro

__all__ = ["MdnsRegistry"]

DIALECTS = (dnssd.DIALECT, gomicro.DIALECT)
_LONGEST_TIMEOUT = 60.0


class MdnsRegistry(Registry):
    """Finds and is found over multicast DNS, as Go Micro does and as DNS-SD does, with no infrastructure at all.

    - ``interface``: IPv4 addresses of the interfaces to speak on; none: all, loopback included;
    - ``dialects``: ``dns-sd``, ``gomicro`` or both;
    - ``networks``: beside the sender's own, networks of which any host may tell nodes, such as ``10.0.0.0/8``;
    - ``timeout``: seconds of listening until all that there is counts as told.

    The work is done in a thread of its own, so that a handler which blocks its loop does not make its service vanish.
    """

    name: ClassVar[str] = "mdns"

    def __init__(
        self,
        *,
        interface: Sequence[str] = (),
        dialects: Sequence[str] = DIALECTS,
        timeout: float = 0.25,
        networks: Sequence[str] = (),
    ) -> None:
        self._interfaces = tuple(_interface(address) for address in interface)
        self._dialects = tuple(_dialect(name) for name in dialects)
        if not self._dialects:
            raise ConfigError(f"dialects is empty; valid are {', '.join(DIALECTS)}")
        if not 0 < timeout <= _LONGEST_TIMEOUT:
            raise ConfigError(f"timeout={timeout} has to be more than 0 and at most {_LONGEST_TIMEOUT} seconds")
        self._timeout = timeout
        self._networks = tuple(network(text) for text in networks)
        self._thread: Thread | None = None
        self._peer: Peer | None = None
        self._closed = False
        self._mailboxes: set[Mailbox[Change]] = set()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._peer else "not opened"
        where = ",".join(self._interfaces) or "all interfaces"
        return f"<MdnsRegistry {'+'.join(self._dialects)} on {where}, {state}>"

    async def __aenter__(self) -> Self:
        """Open sockets and start the thread. Raises `RegistryError` where no interface can be used."""
        if self._closed or self._thread is not None:
            raise Closed("an mdns registry is opened once")
        self._thread = Thread("micro-registry-mdns")
        try:
            await self._thread.call(self._open)
        except BaseException:
            await self.aclose()
            raise
        return self

    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        """Publish the nodes of ``record`` in every dialect; see `Registry.register`."""
        peer, thread = self._opened()
        await thread.call(peer.publish, tuple(publications(record, self._dialects, host_name())), ttl)

    async def deregister(self, record: Record) -> None:
        """Take back the nodes of ``record`` and say goodbye."""
        peer, thread = self._opened()
        await thread.call(peer.withdraw, [(record.name, node.id) for node in record.nodes])

    async def lookup(self, name: str) -> Sequence[Record]:
        """Return the nodes of a service that answer within ``timeout``."""
        peer, thread = self._opened()
        return await thread.call(peer.lookup, name)

    async def services(self) -> Sequence[str]:
        """Return the names of all services that answer within ``timeout``."""
        peer, thread = self._opened()
        return await thread.call(peer.services)

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """Follow one service, or all; what is there is told as it answers, and `SYNC` when ``timeout`` has passed."""
        return self._watch(name)

    async def aclose(self) -> None:
        """Say goodbye for what is registered, and end the thread and its sockets."""
        self._closed = True
        thread, self._thread = self._thread, None
        for mailbox in self._mailboxes:
            mailbox.fail(Closed("the mdns registry was closed"))
        if thread is None:
            return
        with anyio.CancelScope(shield=True):
            try:
                await thread.call(self._close)
            finally:
                await thread.stop()

    @asynccontextmanager
    async def _watch(self, name: str | None) -> AsyncIterator[AsyncIterator[Change]]:
        peer, thread = self._opened()
        mailbox = Mailbox[Change]()
        self._mailboxes.add(mailbox)
        try:
            await thread.call(peer.watch, name, mailbox.put)
            yield mailbox
        finally:
            self._mailboxes.discard(mailbox)
            thread.post(peer.unwatch, mailbox.put)

    def _opened(self) -> tuple[Peer, Thread]:
        if self._peer is None or self._thread is None:
            raise Closed(f"the mdns registry {'was closed' if self._closed else 'is not opened yet'}")
        return self._peer, self._thread

    async def _open(self) -> None:
        interfaces = self._interfaces or addresses()
        self._peer = Peer(
            interfaces, self._dialects, self._timeout, None if self._interfaces else addresses, self._networks
        )

    async def _close(self) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            await peer.close()


def _interface(address: str) -> str:
    try:
        return str(ipaddress.IPv4Address(address))
    except ValueError as error:
        raise ConfigError(f"interface={address!r} is no IPv4 address; give the address, such as 127.0.0.1") from error


def _dialect(name: str) -> str:
    if name not in DIALECTS:
        raise ConfigError(f"dialect {name!r} is unknown; valid are {', '.join(DIALECTS)}")
    return name
