"""The nodes of every service that a client calls, kept fresh by watches of the registry."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import anyio

from micro_core._calling.nodes import Aperture, NodeList, Target
from micro_core.errors import BadRequest, Executed, NoNode, RegistryError, Timeout
from micro_core.follower import Follower
from micro_core.registry import SYNC, Change, ChangeKind, Node, Record, Registry
from micro_core.tasks import OwnedTasks
from micro_core.transport import Channel

__all__ = ["Discovery"]

log = logging.getLogger("micro.client")

ANSWER_SECONDS = 5.0
"""Seconds that a registry may take to list what there is; beyond that it counts as failed."""
GRACE_SECONDS = 5.0
"""Seconds for which nodes are still called that a registry no longer names after a break, and has not said to be gone:
its server may have come back empty, and services that live register again."""
DEPARTED_SECONDS = 60.0
"""Seconds for which a node is not called after another service answered at its address, unless announced anew."""
NAMES_SECONDS = 0.5
"""Seconds that an error may spend on listing the services there are."""


class Discovery:
    """Node lists by service, each followed by a task of its own. An async context manager."""

    def __init__(
        self,
        registry: Registry,
        connect: Callable[[Node], Channel],
        random: Callable[[], float],
        lookup_timeout: float,
        aperture: int = 0,
    ) -> None:
        self._aperture = Aperture(aperture, random) if aperture else None
        self._registry = registry
        self._connect = connect
        self._random = random
        self._lookup_timeout = lookup_timeout
        self._tasks = OwnedTasks()
        self._followed: dict[str, Followed] = {}
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
            record = Record(name=address, version="", nodes=(Node(id=address, address=address),))
            for change in (Change(kind=ChangeKind.CREATE, record=record), SYNC):
                nodes.apply(change)
        return nodes

    def departed(self, nodes: NodeList, target: Target) -> None:
        """Drop a node at whose address another service answers; a list without nodes has to be found again."""
        nodes.departed(target)
        if not nodes and self.known.get(nodes.service) is nodes:
            del self.known[nodes.service]
        self._tasks.start_soon(self._take_back, nodes, target.node)

    async def _take_back(self, nodes: NodeList, node: Node) -> None:
        """Try a node again that is still listed: not every registry tells of one that is back unchanged."""
        await anyio.sleep(DEPARTED_SECONDS)
        nodes.returned(node)
        followed = self._followed.get(nodes.service)
        if followed is not None and followed.nodes is nodes:
            self._wake(followed, followed.error)

    async def find(
        self, service: str, deadline: float, *, whole: bool = False, wait_for_ready: bool = False
    ) -> NodeList:
        """Return the list of a service as soon as it has a node; the ``whole`` list where filters are to judge it.

        With ``wait_for_ready`` it waits until the deadline, whatever the registry says meanwhile.

        Raises `BadRequest` for a service without a name, `NoNode` when the registry has told all there is and no node
        comes for as long as the look-up may take, `Timeout` when the deadline comes first, `RegistryError` when the
        registry does not answer and no earlier list is left.
        """
        if not service:
            raise BadRequest("a call needs the name of a service", executed=Executed.NO)
        followed = self._followed.get(service) or self._begin(service)
        started = anyio.current_time()
        followed.waiting += 1
        try:
            with anyio.CancelScope() as scope:
                while not followed.serves(whole) and (wait_for_ready or followed.error is None):
                    patience = self._lookup_timeout if followed.nodes.synced else ANSWER_SECONDS
                    patience = math.inf if wait_for_ready else patience
                    scope.deadline = min(started + patience, deadline)
                    await followed.changed.wait()
        finally:
            followed.waiting -= 1
        if followed.serves(whole):
            return followed.nodes
        self._check_answered(followed, anyio.current_time() - started)
        self._forget(followed)
        now = anyio.current_time()
        if now >= deadline:
            raise Timeout(
                f"registry {self._registry.name} named no node of {service!r} in the {now - started:.1f} s of the call",
                executed=Executed.NO,
                service=service,
            )
        error = await self._no_node(followed.nodes, now - started, deadline)
        if followed.serves(whole):  # the process was held up, and its registry had no chance to answer in time
            return followed.nodes
        raise error

    def _check_answered(self, followed: Followed, seconds: float) -> None:
        """Raise `RegistryError` where the registry has failed, or had time enough to answer and has not."""
        asked = f"about {followed.nodes.service!r}"
        if followed.error is not None:
            raise RegistryError(
                f"registry {self._registry.name} gave no answer {asked}: {followed.error}",
                permanent=getattr(followed.error, "permanent", False),
            ) from followed.error
        if not followed.nodes.synced and seconds >= self._lookup_timeout:
            told = f"not told of all nodes {asked}" if followed.nodes else f"not answered {asked}"
            raise RegistryError(f"registry {self._registry.name} has {told} in {seconds:.1f} s")

    def _begin(self, service: str) -> Followed:
        nodes = NodeList(service, self._connect, self._drop, self._random, self._aperture)
        followed = self._followed[service] = Followed(nodes)
        self._tasks.start_soon(self._follow, followed)
        return followed

    def _forget(self, followed: Followed) -> None:
        """Stop following a service that nobody waits for and that is not there: callers may ask for any name.

        Which of its nodes departed is remembered: each call would try them anew.
        """
        nodes = followed.nodes
        if not nodes.synced or nodes or nodes.departed_addresses or followed.waiting:
            return
        if self._followed.get(nodes.service) is followed:
            del self._followed[nodes.service]
            followed.scope.cancel()

    async def _no_node(self, nodes: NodeList, seconds: float, deadline: float) -> NoNode:
        service, others = nodes.service, nodes.other_protocols
        known = "which others it knows it did not tell"
        with anyio.CancelScope(deadline=min(anyio.current_time() + NAMES_SECONDS, deadline)):
            try:
                names = [name for name in await self._registry.services() if name != service]
                known = f"known services: {', '.join(names[:20])}" if names else "it knows no other service"
            except Exception as error:  # a plugin's
                log.debug("registry %s does not list its services: %s", self._registry.name, error)
        mucp = f" that speaks mucp, only {', '.join(others)}," if others else ""
        if departed := nodes.departed_addresses:
            known = f"another service answers at {', '.join(departed[:20])}, where it is said to be; {known}"
        return NoNode(
            f"no node of {service!r}{mucp} in registry {self._registry.name} after {seconds:.1f} s; {known}",
            service=service,
        )

    async def _follow(self, followed: Followed) -> None:
        def tell(change: Change) -> None:
            followed.nodes.apply(change)
            self._wake(followed, None)
            if change.kind is ChangeKind.SYNC:
                self._forget(followed)  # the answer may have come after the last caller had left

        def lost(error: Exception) -> None:
            self._wake(followed, error)

        with followed.scope:
            follower = Follower(
                self._registry, followed.nodes.service, tell, lost, grace=GRACE_SECONDS, random=self._random
            )
            await follower.run()

    def _wake(self, followed: Followed, error: Exception | None) -> None:
        followed.error = error
        if followed.nodes:
            self.known[followed.nodes.service] = followed.nodes
        else:
            self.known.pop(followed.nodes.service, None)
        followed.changed.set()
        followed.changed = anyio.Event()

    def _drop(self, channel: Channel) -> None:
        self._tasks.start_soon(channel.aclose)


class Followed:
    """A node list, its last error, and who waits for a change."""

    __slots__ = ("changed", "error", "nodes", "scope", "waiting")

    def __init__(self, nodes: NodeList) -> None:
        self.nodes = nodes
        self.error: Exception | None = None
        self.scope = anyio.CancelScope()
        self.waiting = 0
        self.changed = anyio.Event()

    def serves(self, whole: bool) -> bool:
        """Return whether a call can choose from the list; with ``whole``, whether it has all nodes there are."""
        return bool(self.nodes) and (self.nodes.synced or not whole)
