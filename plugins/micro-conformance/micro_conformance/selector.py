"""What every selector owes: the promises of `micro_core.selector`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from micro_conformance.suite import Suite, promise
from micro_core import Node, Selector

__all__ = ["SelectorConformance"]


class SelectorConformance(Suite):
    """Subclass it, and give ``plugin`` and ``options``."""

    kind = "selector"
    capabilities: ClassVar[Mapping[str, str]] = {
        "even": "nodes that are alike are taken alike often",
        "load": "nodes that are slow or fail are taken less often",
    }

    def selector(self) -> Selector:
        """Return a new selector."""
        made = self.make()
        assert isinstance(made, Selector)
        return made

    @promise()
    def test_the_choice_is_one_of_the_nodes(self) -> None:
        selector, nodes = self.selector(), some(5)
        assert {use(selector, "a", nodes) for _ in range(100)} <= set(nodes)

    @promise()
    def test_a_single_node_is_the_choice(self) -> None:
        selector, nodes = self.selector(), some(1)
        assert {use(selector, "a", nodes) for _ in range(10)} == set(nodes)

    @promise()
    def test_a_node_that_has_gone_is_not_chosen(self) -> None:
        selector, nodes = self.selector(), some(6)
        for _ in range(50):
            use(selector, "a", nodes)
        for left in (nodes[:5], nodes[3:4], nodes[2:4]):
            assert {use(selector, "a", left) for _ in range(50)} <= set(left)

    @promise()
    def test_services_do_not_mix(self) -> None:
        selector, ours, theirs = self.selector(), some(2), some(5, "other")
        for _ in range(50):
            assert use(selector, "a", ours) in ours
            assert use(selector, "b", theirs) in theirs

    @promise()
    def test_the_list_of_nodes_stays_as_it_is(self) -> None:
        selector, nodes = self.selector(), some(5)
        for _ in range(20):
            use(selector, "a", nodes)
            assert nodes == some(5)

    @promise()
    def test_a_node_that_moved_is_chosen_as_it_is_now(self) -> None:
        selector, before = self.selector(), some(3)
        after = [Node(id=node.id, address=f"{node.address}0", metadata={"zone": "eu"}) for node in before]
        for nodes in (before, after):
            assert {use(selector, "a", nodes).address for _ in range(50)} <= {node.address for node in nodes}

    @promise()
    def test_feedback_on_unknown_nodes_is_no_error(self) -> None:
        selector, nodes = self.selector(), some(2)
        stranger = Node(id="stranger", address="10.1.0.1:1")
        selector.finished(stranger, 0.1, True)
        selector.started(stranger)
        selector.finished(stranger, 0.1, False)
        selector.finished(stranger, 0.1, False)
        assert selector.select("a", nodes) in nodes

    @promise(needs="even")
    def test_nodes_that_are_alike_are_taken_alike_often(self) -> None:
        selector, nodes = self.selector(), some(3)
        taken = Counter(use(selector, "a", nodes) for _ in range(3000))
        assert all(800 < taken[node] < 1200 for node in nodes), taken

    @promise(needs="even")
    def test_services_called_in_turn_are_even_each(self) -> None:
        selector, nodes = self.selector(), some(2)
        taken = Counter((service, use(selector, service, nodes)) for _ in range(1000) for service in ("a", "b"))
        assert all(350 < count < 650 for count in taken.values()), taken
        assert len(taken) == 4

    @promise(needs="even")
    def test_nodes_are_alike_in_lists_that_are_new_each_time(self) -> None:
        selector, nodes = self.selector(), some(3)
        taken = Counter(use(selector, "a", tuple(nodes)) for _ in range(3000))
        assert all(800 < taken[node] < 1200 for node in nodes), taken

    @promise(needs="even")
    def test_no_node_waits_for_long(self) -> None:
        selector, nodes = self.selector(), some(4)
        for _ in range(50):
            assert {use(selector, "a", nodes) for _ in range(100)} == set(nodes)

    @promise(needs="even")
    def test_a_node_that_comes_is_taken(self) -> None:
        selector, nodes = self.selector(), some(3)
        for _ in range(100):
            use(selector, "a", nodes[:2])
        assert nodes[2] in {use(selector, "a", nodes) for _ in range(100)}

    @promise(needs="load")
    def test_a_slow_node_is_taken_less_often(self) -> None:
        selector, nodes = self.selector(), some(3)
        assert selector.feedback
        taken = Counter(use(selector, "a", nodes, slow=nodes[:1]) for _ in range(600))
        assert taken[nodes[0]] < 100, taken

    @promise(needs="load")
    def test_a_node_that_fails_at_once_is_taken_less_often(self) -> None:
        selector, nodes = self.selector(), some(3)
        taken = Counter(use(selector, "a", nodes, failing=nodes[:1]) for _ in range(600))
        assert taken[nodes[0]] < 100, taken

    @promise(needs="load")
    def test_nodes_that_all_fail_are_chosen_all_the_same(self) -> None:
        selector, nodes = self.selector(), some(3)
        for _ in range(50):
            use(selector, "a", nodes, failing=nodes)
        assert {use(selector, "a", nodes, failing=nodes) for _ in range(200)} == set(nodes)

    @promise(needs="load")
    def test_a_busy_node_is_taken_less_often(self) -> None:
        selector, nodes = self.selector(), some(3)
        for _ in range(100):
            use(selector, "a", nodes)
        for _ in range(50):
            selector.started(nodes[0])
        taken = Counter(use(selector, "a", nodes) for _ in range(300))
        assert taken[nodes[0]] < 50, taken


def some(count: int, name: str = "node") -> list[Node]:
    """Return different nodes."""
    return [Node(id=f"{name}-{number}", address=f"10.0.0.{number + 1}:8080") for number in range(count)]


def use(
    selector: Selector, service: str, nodes: Sequence[Node], *, slow: Sequence[Node] = (), failing: Sequence[Node] = ()
) -> Node:
    """Choose a node as a client does, and report how the attempt went: ten milliseconds, unless it is slow or fails."""
    node = selector.select(service, nodes)
    if selector.feedback:
        selector.started(node)
        seconds = 1.0 if node in slow else 0.0001 if node in failing else 0.01
        selector.finished(node, seconds, node not in failing)
    return node
