from collections import Counter

import pytest
from micro_selector_weighted import WeightedSelector

from micro_core import Node


def node(id: str, **metadata: str) -> Node:
    return Node(id=id, address="127.0.0.1:1", metadata=metadata)


def drawn(selector: WeightedSelector, *nodes: Node) -> Counter[str]:
    return Counter(selector.select("greeter", nodes).id for _ in range(1000))


def test_a_heavier_node_gets_more_calls() -> None:
    counts = drawn(WeightedSelector(), node("heavy", weight="9"), node("light"))
    assert 700 < counts["heavy"] < 1000


def test_a_node_of_weight_zero_gets_none() -> None:
    assert drawn(WeightedSelector(), node("off", weight="0"), node("on")) == {"on": 1000}


def test_nodes_that_are_all_switched_off_still_answer() -> None:
    assert drawn(WeightedSelector(), node("off", weight="0")) == {"off": 1000}


@pytest.mark.parametrize("nonsense", ["", "much", "nan", "inf", "-1"])
def test_nonsense_counts_as_the_default(nonsense: str) -> None:
    assert drawn(WeightedSelector(default=0), node("odd", weight=nonsense), node("on", weight="1")) == {"on": 1000}


def test_the_metadata_to_read_can_be_chosen() -> None:
    assert drawn(WeightedSelector(key="share"), node("a", share="0", weight="5"), node("b")) == {"b": 1000}


def test_changed_nodes_are_weighed_again() -> None:
    selector = WeightedSelector()
    assert drawn(selector, node("a", weight="0"), node("b")) == {"b": 1000}
    assert drawn(selector, node("a"), node("b", weight="0")) == {"a": 1000}
