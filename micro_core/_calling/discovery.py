"""The nodes of every service that a client calls, kept fresh by watches of the registry."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from micro_core._calling.nodes import NodeList, Target
from micro_core.errors import BadRequest, Executed, MicroError, NoNode, RegistryError, Timeout
from micro_core.registry import Node, Record, Registry
from micro_core.tasks import OwnedTasks
from micro_core.transport import Channel

__all__ = ["Discovery"]

log = logging.getLogger("micro.client")

REFRESH_SECONDS = 60.0
"""A watch may miss something: the whole list is asked for that often (docs/wire.md §6.3)."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
NAMES_SECONDS = 0.5
"""How long an error may take to find out which services there are."""


class Discovery:
    """Node lists by service, each followed by a task of its own. An async context manager."""

    def __init__(
        self, registry: Registry, connect: Callable[[Node], Channel], random: Callable[[], float], lookup_timeout: float
    ) -> None:
        self._registry = registry
        self._connect = connect
        self._random = random
        self._lookup_timeout = lookup_timeout
        self._tasks = OwnedTasks()
        self._followed: dict[str, _Followed] = {}
        self._direct: dict[str, NodeList] = {}
        self.known: dict[str, NodeList] = {}
        """The lists that have nodes, ready for the hot path."""

    async def __aenter__(self) -> Discovery:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._tasks.aclose()
        for nodes in (*(followed.nodes for followed in self._followed.values()), *self._direct.values()):
            for channel in nodes.close():
                await channel.aclose()
        self._followed.clear()
        self._direct.clear()
        self.known.clear()

    def at_address(self, address: str) -> NodeList:
        """Return the list that holds just ``address``, for calls that name one."""
        nodes = self._direct.get(address)
        if nodes is None:
            nodes = self._direct[address] = NodeList(address, self._connect, self._drop, self._random)
            nodes.replace([Record(name=address, version="", nodes=(Node(id=address, address=address),))])
        return nodes

    def departed(self, nodes: NodeList, target: Target) -> None:
        """Drop a node at whose address another service answers; a list without nodes has to be found again."""
        nodes.departed(target)
        if not nodes and self.known.get(nodes.service) is nodes:
            del self.known[nodes.service]

    async def find(self, service: str, deadline: float) -> NodeList:
        """Return the list of a service as soon as it has a node.

        Raises `BadRequest` for a service without a name, `NoNode` when the registry knows none for as long as the
        look-up may take, `Timeout` when the deadline comes first, `RegistryError` when it does not answer and no
        earlier list is left.
        """
        followed = self._followed.get(service)
        if followed is None:
            if not service:
                raise BadRequest("a call needs the name of a service", executed=Executed.NO)
            nodes = NodeList(service, self._connect, self._drop, self._random)
            followed = self._followed[service] = _Followed(nodes)
            self._tasks.start_soon(self._follow, followed)
        started = anyio.current_time()
        followed.waiting += 1
        try:
            with anyio.CancelScope(deadline=min(started + self._lookup_timeout, deadline)):
                while not followed.nodes and followed.error is None:
                    await followed.changed.wait()
        finally:
            followed.waiting -= 1
        if followed.nodes:
            return followed.nodes
        if followed.error is not None:
            raise RegistryError(
                f"registry {self._registry.name} gave no answer about {service!r}: {followed.error}"
            ) from followed.error
        self._forget(followed)
        now = anyio.current_time()
        if now >= deadline:
            raise Timeout(
                f"registry {self._registry.name} named no node of {service!r} in the {now - started:.1f} s of the call",
                executed=Executed.NO,
                service=service,
            )
        error = await self._no_node(followed.nodes, now - started, deadline)
        if followed.nodes:  # the process was held up, and its registry had no chance to answer in time
            return followed.nodes
        raise error

    def _forget(self, followed: _Followed) -> None:
        """Stop following a service that nobody waits for and that is not there: callers may ask for any name."""
        if followed.answered and not followed.waiting and self._followed.get(followed.nodes.service) is followed:
            del self._followed[followed.nodes.service]
            followed.scope.cancel()

    async def _no_node(self, nodes: NodeList, seconds: float, deadline: float) -> NoNode:
        service, others = nodes.service, nodes.other_protocols
        names: list[str] = []
        with anyio.CancelScope(deadline=min(anyio.current_time() + NAMES_SECONDS, deadline)):
            try:
                names = [name for name in await self._registry.services() if name != service]
            except MicroError as error:
                log.debug("registry %s does not list its services: %s", self._registry.name, error)
        known = f"known services: {', '.join(names[:20])}" if names else "it knows no other service"
        mucp = f" that speaks mucp, only {', '.join(others)}," if others else ""
        return NoNode(
            f"no node of {service!r}{mucp} in registry {self._registry.name} after {seconds:.1f} s; {known}",
            service=service,
        )

    async def _follow(self, followed: _Followed) -> None:
        with followed.scope:
            await self._keep_fresh(followed)

    async def _keep_fresh(self, followed: _Followed) -> None:
        service, pause = followed.nodes.service, FIRST_PAUSE
        while True:
            try:
                async with self._registry.watch(service) as changes:
                    followed.nodes.replace(await self._registry.lookup(service))
                    self._wake(followed, None)
                    if not followed.nodes:
                        self._forget(followed)  # the answer came after its last caller had left
                    pause = FIRST_PAUSE
                    with anyio.move_on_after(REFRESH_SECONDS):
                        async for change in changes:
                            if change.record.name == service:
                                followed.nodes.apply(change)
                                self._wake(followed, None)
                    continue
            except Exception as error:
                log.warning("registry %s, watching %s: %s", self._registry.name, service, error)
                self._wake(followed, error)
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _wake(self, followed: _Followed, error: Exception | None) -> None:
        followed.error = error
        followed.answered = followed.answered or error is None
        if followed.nodes:
            self.known[followed.nodes.service] = followed.nodes
        else:
            self.known.pop(followed.nodes.service, None)
        followed.changed.set()
        followed.changed = anyio.Event()

    def _drop(self, channel: Channel) -> None:
        self._tasks.start_soon(channel.aclose)


class _Followed:
    """A node list, its last error, and who waits for a change."""

    __slots__ = ("answered", "changed", "error", "nodes", "scope", "waiting")

    def __init__(self, nodes: NodeList) -> None:
        self.nodes = nodes
        self.error: Exception | None = None
        self.answered = False
        """Whether the registry has said something about the service; a slow one is given the time that it takes."""
        self.scope = anyio.CancelScope()
        self.waiting = 0
        self.changed = anyio.Event()
