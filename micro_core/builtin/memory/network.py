"""The network inside a process: what the memory registry, transport and broker of one world share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count

from micro_core.address import join_address, split_literal
from micro_core.builtin.memory.group import Group
from micro_core.builtin.memory.listener import MemoryListener
from micro_core.builtin.memory.published import NodeKey, Published, Watcher
from micro_core.errors import ConfigError

__all__ = ["MemoryNetwork"]

FIRST_PORT = 40001
WILDCARDS = ("0.0.0.0", "::")


class MemoryNetwork:
    """Where memory parts meet: nodes and who watches them, listeners by address, subscribers.

    A part that is built while a network is current joins it; any other has a network of its own, so that two services
    in one process do not meet unless they shall (`micro_core.testing.world`). One network belongs to one event loop.
    """

    def __init__(self) -> None:
        self.nodes: dict[NodeKey, Published] = {}
        self.watchers: set[Watcher] = set()
        self.listeners: dict[str, MemoryListener] = {}
        self.groups: list[Group] = []
        self._ports = count(FIRST_PORT)
        self._contexts = 0
        """The number of contexts in which it is the current one."""

    @staticmethod
    def join() -> MemoryNetwork:
        """Return the current network, or a new one where none is."""
        network = _current.get()
        return network if network is not None and network._contexts else MemoryNetwork()

    @contextmanager
    def current(self) -> Iterator[None]:
        """Have parts that are built inside this context join this network.

        It may be left in another task than it was entered in: that one sees other contextvars.
        """
        token = _current.set(self)
        self._contexts += 1
        try:
            yield
        finally:
            self._contexts -= 1
            try:
                _current.reset(token)
            except ValueError:  # set in another task's context, where it counts no more
                pass

    def free_address(self, host: str = "127.0.0.1") -> str:
        """Return an address on ``host`` that nobody had before."""
        while (address := join_address(host, next(self._ports))) in self.listeners:
            pass
        return address

    def bind(self, address: str, listener: MemoryListener) -> str:
        """Give out an address, a fresh one for port 0, and return it. Raises `ConfigError` where it is in use."""
        host, port = split_literal(f"0.0.0.0{address}" if address.startswith(":") else address)
        bound = self.free_address(host) if port == 0 else join_address(host, port)
        if bound in self.listeners:
            raise ConfigError(f"address {bound} is in use; choose another, or port 0 for any")
        self.listeners[bound] = listener
        return bound

    def unbind(self, address: str) -> None:
        """Free an address."""
        self.listeners.pop(address, None)

    def listener(self, address: str) -> MemoryListener | None:
        """Return who listens on ``address``, itself or by a wildcard."""
        if found := self.listeners.get(address):
            return found
        port = split_literal(address)[1]
        return next(
            (self.listeners[wild] for host in WILDCARDS if (wild := join_address(host, port)) in self.listeners), None
        )

    def __repr__(self) -> str:
        nodes, listeners, groups = len(self.nodes), len(self.listeners), len(self.groups)
        return f"<MemoryNetwork {nodes} nodes, {listeners} listeners, {groups} subscriptions>"


_current: ContextVar[MemoryNetwork | None] = ContextVar("micro_memory_network", default=None)
