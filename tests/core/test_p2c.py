"""The p2c selector: who is slow, busy or gone gets less, and equal nodes get equal shares."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from micro_core import Node
from micro_core.builtin.selectors.p2c import P2cSelector

NODES = tuple(Node(id=f"n{i}", address=f"10.0.0.{i}:80") for i in range(3))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shares(calls: int, seconds: Callable[[Node, random.Random], float], *, seed: int = 1) -> Counter[str]:
    """Make sequential calls, each of which takes as long as ``seconds`` says; return how many each node got."""
    dice, clock = random.Random(seed), Clock()
    selector, got = P2cSelector(draw=dice.randrange, clock=clock), Counter[str]()
    for _ in range(calls):
        node = selector.select("greeter", NODES)
        got[node.id] += 1
        took = seconds(node, dice)
        selector.started(node)
        clock.now += took
        selector.finished(node, took, True)
    return got


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scale", [0.0003, 0.02])
def test_equal_nodes_get_equal_shares_of_calls_made_one_after_the_other(seed: int, scale: float) -> None:
    def equal(node: Node, dice: random.Random) -> float:
        """About the same time each, with a hiccup now and then, as on a busy machine."""
        return scale * dice.uniform(0.9, 1.1) + (0.05 if dice.random() < 0.02 else 0.0)

    got = shares(300, equal, seed=seed)
    assert all(80 <= got[node.id] <= 120 for node in NODES), got


def test_a_slow_node_gets_little_and_is_not_forgotten() -> None:
    got = shares(3000, lambda node, dice: 0.2 if node.id == "n1" else 0.01)
    assert 1 <= got["n1"] < 150


def test_open_streams_are_load() -> None:
    selector = P2cSelector(draw=random.Random(1).randrange, clock=Clock())
    for node in NODES:
        selector.started(node)
        selector.finished(node, 0.001, True)
    for _ in range(50):
        selector.started(NODES[0])  # streams, which last
    got = Counter(selector.select("greeter", NODES).id for _ in range(200))
    assert got["n0"] == 0
    assert 80 <= got["n1"] <= 120


def test_a_node_that_gave_no_answer_is_avoided_at_once() -> None:
    selector = P2cSelector(draw=random.Random(1).randrange, clock=Clock())
    for node in NODES:
        selector.started(node)
        selector.finished(node, 0.001, node is not NODES[2])
    got = Counter(selector.select("greeter", NODES).id for _ in range(200))
    assert got["n2"] == 0
