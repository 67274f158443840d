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
"""The least latency, in seconds, that an unanswered attempt counts as, however soon it failed."""

CLEARLY = 0.7
"""The ratio of costs below which a node is clearly better; anything nearer is chance."""

ALIKE_SECONDS = 0.002
"""Latencies below this one count as this one: differences among them are the machine's noise."""

NODES_KEPT = 4096


class _Load:
    """The load of one node, as far as this client knows."""

    __slots__ = ("at", "before", "latency", "outstanding")

    def __init__(self) -> None:
        self.outstanding = 0
        self.latency = 0.0
        self.before = (0.0, 0.0)
        """The last two measurements: a node is slow after three slow answers in a row, once is chance."""
        self.at = -math.inf

    def latency_at(self, now: float) -> float:
        """Return the latency, faded since it was measured; else a node that failed is never tried again."""
        return max(self.latency * math.exp((self.at - now) / MEMORY_SECONDS), ALIKE_SECONDS)

    def cost(self, now: float) -> float:
        if self.at == -math.inf:
            return self.outstanding * FAILURE_SECONDS
        return (self.outstanding + 1) * self.latency_at(now)


class P2cSelector(Selector):
    """Compares outstanding attempts, open streams among them, times latency, which rises at once and falls with time.

    Of two that cost nearly the same, the one is taken whose last turn is longer ago: so equal nodes get equal shares.
    A node that was never tried is taken at once. ``draw`` takes n and returns a number
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
        self._turns: dict[tuple[str, str], int] = {}
        """When each service's nodes were taken last, counted in choices."""
        self._choices = 0

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        if len(nodes) == 1:
            return nodes[0]
        first = self._draw(len(nodes))
        second = self._draw(len(nodes) - 1)
        chosen = self._better(service, nodes[first], nodes[second + (second >= first)])
        if len(self._turns) > NODES_KEPT:
            self._turns.clear()
        self._choices += 1
        self._turns[service, chosen.id] = self._choices
        return chosen

    def _better(self, service: str, one: Node, other: Node) -> Node:
        now = self._clock()
        cost, other_cost = self._cost(one, now), self._cost(other, now)
        if other_cost < CLEARLY * cost:
            return other
        if cost < CLEARLY * other_cost:
            return one
        turn, other_turn = self._turns.get((service, one.id), 0), self._turns.get((service, other.id), 0)
        return one if turn <= other_turn else other

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
        now = self._clock()
        latency = min(seconds, *load.before) if ok else max(seconds, FAILURE_SECONDS)
        load.before = (load.before[1], seconds)
        remembered = load.latency_at(now)
        weight = 1 - math.exp((load.at - now) / MEMORY_SECONDS)
        load.latency = latency if latency > remembered else remembered + weight * (latency - remembered)
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
