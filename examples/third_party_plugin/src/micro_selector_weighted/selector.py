"""The weighted selector: a node's share of the calls is its share of the weight."""

import math
import random
from collections.abc import Sequence
from itertools import accumulate

from micro_core import Node, Selector

__all__ = ["WeightedSelector"]


class WeightedSelector(Selector):
    """Draws nodes in proportion to the number in their metadata ``key``; where there is none, it is ``default``."""

    name = "weighted"

    def __init__(self, *, key: str = "weight", default: float = 1.0) -> None:
        self._key = key
        self._default = default
        self._sums: dict[str, tuple[Sequence[Node], list[float]]] = {}

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        """Return one of ``nodes``."""
        known, sums = self._sums.get(service, (None, []))
        if known is not nodes:  # the same object comes while nothing changes
            sums = list(accumulate(self._weight(node) for node in nodes))
            self._sums[service] = nodes, sums
        if sums[-1] <= 0:  # all of them are switched off: better one of those than none
            return random.choice(nodes)
        return random.choices(nodes, cum_weights=sums)[0]

    def _weight(self, node: Node) -> float:
        try:
            weight = float(node.metadata.get(self._key, self._default))
        except ValueError:
            return self._default
        return weight if math.isfinite(weight) and weight >= 0 else self._default

    def __repr__(self) -> str:
        return f"<WeightedSelector by {self._key}, {len(self._sums)} services>"
