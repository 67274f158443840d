"""The random selector: even over all nodes, and nothing to keep."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from micro_core.hookspecs import hookimpl
from micro_core.registry import Node
from micro_core.selector import Selector

__all__ = ["RandomSelector", "make_selector"]


class RandomSelector(Selector):
    """Takes any node, each as likely as the others. ``choose`` draws one of a sequence."""

    name = "random"

    def __init__(self, *, choose: Callable[[Sequence[Node]], Node] = random.choice) -> None:
        self._choose = choose

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        return self._choose(nodes)

    def __repr__(self) -> str:
        return "<RandomSelector>"


@hookimpl
def make_selector() -> Selector:
    """Return a random selector."""
    return RandomSelector()
