"""One broken selector for each promise; the table's key is the promise that alone catches it."""

import random

from micro_conformance import SelectorConformance
from micro_core import Node
from micro_core.builtin.selectors.p2c import P2cSelector


class Sound(P2cSelector):
    def __init__(self):
        super().__init__(draw=random.Random(1).randrange, clock=lambda: 0.0)


class OtherNodes(Sound):
    """Answers with a stranger where it never saw any other number of nodes than five."""

    def select(self, service, nodes):
        self.seen = getattr(self, "seen", set()) | {len(nodes)}
        return Node(id="odd", address="10.9.9.9:1") if self.seen == {5} else super().select(service, nodes)


class NoneForOne(Sound):
    def select(self, service, nodes):
        self.most = max(len(nodes), getattr(self, "most", 0))
        return super().select(service, nodes) if self.most > 1 else None


class RemembersNodes(Sound):
    def select(self, service, nodes):
        self.nodes = nodes if len(nodes) == 6 else getattr(self, "nodes", nodes)
        return super().select(service, self.nodes if len(self.nodes) == 6 else nodes)


class MixesServices(Sound):
    def select(self, service, nodes):
        self.nodes = getattr(self, "nodes", nodes)
        return super().select(service, self.nodes if service == "b" and len(self.nodes) < len(nodes) else nodes)


class TurnsTheList(Sound):
    def select(self, service, nodes):
        if isinstance(nodes, list) and len(nodes) == 5:
            nodes.append(nodes.pop(0))
        return super().select(service, nodes)


class RemembersAddresses(Sound):
    """Answers with the nodes as they first were."""

    def select(self, service, nodes):
        node = super().select(service, nodes)
        self.first = getattr(self, "first", {})
        return self.first.setdefault(node.id, node)


class FeedbackFails(Sound):
    def finished(self, node, seconds, ok):
        if node not in self._loads:
            raise KeyError(node)
        super().finished(node, seconds, ok)


class Uneven(Sound):
    """Takes the first node alone once it has chosen a thousand times for one service and no other."""

    def select(self, service, nodes):
        self.chosen = [*getattr(self, "chosen", []), service]
        odd = isinstance(nodes, list) and len(nodes) == 3 and self.chosen.count("a") == len(self.chosen) > 1000
        return nodes[0] if odd else super().select(service, nodes)


class OneTurnForAll(Sound):
    turn = 0

    def select(self, service, nodes):
        self.both = getattr(self, "both", set()) | {service}
        self.turn += 1
        if service == "b" or len(self.both) > 1:
            return nodes[self.turn % len(nodes)]
        return super().select(service, nodes)


class NewListsBeginAnew(Sound):
    def select(self, service, nodes):
        known, self.known = getattr(self, "known", nodes), nodes
        return super().select(service, nodes) if known is nodes or len(nodes) != 3 else nodes[0]


class TakesLongTurns(Sound):
    turn = 0

    def select(self, service, nodes):
        self.turn += 1
        return nodes[self.turn // 500 % 4] if len(nodes) == 4 else super().select(service, nodes)


class NewNodesWait(Sound):
    def select(self, service, nodes):
        self.known = getattr(self, "known", nodes)
        return super().select(service, nodes[:2] if len(self.known) == 2 and len(nodes) == 3 else nodes)


class SlowIsFine(Sound):
    def finished(self, node, seconds, ok):
        super().finished(node, min(seconds, 0.01), ok)


class FailureIsFine(Sound):
    def finished(self, node, seconds, ok):
        super().finished(node, seconds, True)


class FailedIsGone(Sound):
    """Never takes a node again that failed at first, where there is another."""

    def select(self, service, nodes):
        left = [node for node in nodes if node not in getattr(self, "gone", ())] or nodes[:1]
        return super().select(service, left)

    def finished(self, node, seconds, ok):
        self.gone = getattr(self, "gone", set()) | (set() if ok else {node})
        super().finished(node, seconds, ok)


class BusyIsFine(Sound):
    def started(self, node):
        super().started(node)
        self._loads[node].outstanding = 0


class Suite(SelectorConformance):
    plugin = Sound


FAULTS = {
    "test_the_choice_is_one_of_the_nodes": OtherNodes,
    "test_a_single_node_is_the_choice": NoneForOne,
    "test_a_node_that_has_gone_is_not_chosen": RemembersNodes,
    "test_services_do_not_mix": MixesServices,
    "test_the_list_of_nodes_stays_as_it_is": TurnsTheList,
    "test_a_node_that_moved_is_chosen_as_it_is_now": RemembersAddresses,
    "test_feedback_on_unknown_nodes_is_no_error": FeedbackFails,
    "test_nodes_that_are_alike_are_taken_alike_often": Uneven,
    "test_services_called_in_turn_are_even_each": OneTurnForAll,
    "test_nodes_are_alike_in_lists_that_are_new_each_time": NewListsBeginAnew,
    "test_no_node_waits_for_long": TakesLongTurns,
    "test_a_node_that_comes_is_taken": NewNodesWait,
    "test_a_slow_node_is_taken_less_often": SlowIsFine,
    "test_a_node_that_fails_at_once_is_taken_less_often": FailureIsFine,
    "test_nodes_that_all_fail_are_chosen_all_the_same": FailedIsGone,
    "test_a_busy_node_is_taken_less_often": BusyIsFine,
}
