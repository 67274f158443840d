"""The p2c selector: of two nodes drawn at random, the one that is likely to answer sooner.

Two draws are enough to keep clear of slow and busy nodes, and leave no herd that runs to the single best one
(M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

from micro_core.hookspecs import hookimpl
from micro_core.registry import Node
from micro_core.selector import Selector

__all__ = ["P2cSelector", "make_selector"]

MEMORY_SECONDS = 10.0
"""After this time a latency counts for a third of what it did."""

FAILURE_SECONDS = 1.0
"""What an attempt without an answer counts for at least, however soon it failed."""

CLEARLY = 0.9
"""What a node must cost of another's cost to be better; nearly the same is a matter of chance."""

NODES_KEPT = 4096


class _Load:
    """What is known of a node."""

    __slots__ = ("at", "latency", "outstanding")

    def __init__(self) -> None:
        self.outstanding = 0
        self.latency = 0.0
        self.at = -math.inf

    def latency_at(self, now: float) -> float:
        """Return the latency, faded since it was measured; else a node that failed is never tried again."""
        return self.latency * math.exp((self.at - now) / MEMORY_SECONDS)

    def cost(self, now: float) -> float:
        if self.at == -math.inf:
            return self.outstanding * FAILURE_SECONDS
        return (self.outstanding + 1) * self.latency_at(now)


class P2cSelector(Selector):
    """Compares outstanding attempts times latency, a moving average that rises at once and falls with time.

    A node that was never tried costs nothing, so that new ones are taken soon. ``draw`` takes n and returns a number
    below it, ``clock`` returns seconds.
    """

    name = "p2c"
    feedback = True

    def __init__(
        self, *, draw: Callable[[int], int] = random.randrange, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._draw = draw
        self._clock = clock
        self._loads: dict[Node, _Load] = {}

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        first = self._draw(len(nodes))
        if len(nodes) == 1:
            return nodes[first]
        second = self._draw(len(nodes) - 1)
        one, other = nodes[first], nodes[second + (second >= first)]
        now = self._clock()
        return other if self._cost(other, now) < CLEARLY * self._cost(one, now) else one

    def _cost(self, node: Node, now: float) -> float:
        load = self._loads.get(node)
        return load.cost(now) if load else 0.0

    def started(self, node: Node) -> None:
        load = self._loads.get(node)
        if load is None:
            load = self._loads[node] = _Load()
            self._forget_old()
        load.outstanding += 1

    def finished(self, node: Node, seconds: float, ok: bool) -> None:
        load = self._loads.get(node)
        if load is None:
            return
        load.outstanding = max(0, load.outstanding - 1)
        latency, now = seconds if ok else max(seconds, FAILURE_SECONDS), self._clock()
        remembered = load.latency_at(now)
        weight = 1 - math.exp((load.at - now) / MEMORY_SECONDS)
        load.latency = latency if latency > remembered else remembered + weight * latency
        load.at = now

    def _forget_old(self) -> None:
        """Keep what is known bounded where nodes come and go for months."""
        if len(self._loads) <= NODES_KEPT:
            return
        idle = [node for node, load in self._loads.items() if not load.outstanding]
        for node in sorted(idle, key=lambda node: self._loads[node].at)[: NODES_KEPT // 2]:
            del self._loads[node]

    def __repr__(self) -> str:
        return f"<P2cSelector {len(self._loads)} nodes>"


@hookimpl
def make_selector() -> Selector:
    """Return a p2c selector."""
    return P2cSelector()
