"""The round robin selector: every node in its turn, from call to call."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from micro_core.hookspecs import hookimpl
from micro_core.registry import Node
from micro_core.selector import Selector

__all__ = ["RoundRobinSelector", "make_selector"]


class RoundRobinSelector(Selector):
    """Takes the node after the one taken last, for each service by itself.

    The first is drawn by ``start``, which takes the number of nodes: clients that start together spread out.
    """

    name = "roundrobin"

    def __init__(self, *, start: Callable[[int], int] = random.randrange) -> None:
        self._start = start
        self._next: dict[str, int] = {}

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        turn = self._next.get(service)
        if turn is None:
            turn = self._start(len(nodes))
        self._next[service] = turn + 1
        return nodes[turn % len(nodes)]

    def __repr__(self) -> str:
        return f"<RoundRobinSelector {len(self._next)} services>"


@hookimpl
def make_selector() -> Selector:
    """Return a round robin selector."""
    return RoundRobinSelector()
