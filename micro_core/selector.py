"""The selector's contract: which of the nodes that can answer shall.

Filters (version, label, endpoint) and the ejection of nodes that fail come before, in the client, and are the same for
every strategy (docs/selector.md).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from micro_core.registry import Node

__all__ = ["Selector"]


class Selector(ABC):
    """A strategy. Called for every attempt and never awaited: keep it quick."""

    name: ClassVar[str]

    feedback: ClassVar[bool] = False
    """True where the strategy wants `started` and `finished` called."""

    @abstractmethod
    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        """Return one of ``nodes``, never empty, and the same object from call to call while nothing changes."""

    def started(self, node: Node) -> None:
        """Note that an attempt goes to ``node``, or that a stream is being opened there."""

    def finished(self, node: Node, seconds: float, ok: bool) -> None:
        """Note that an attempt ended, and took ``seconds``; ``ok`` is False where the node gave no answer.

        Of a stream it is told when the stream ends, while ``seconds`` are those that its opening took.
        """
