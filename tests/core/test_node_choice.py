"""Which node a client chooses: filters, ejection, trying again. Everything synchronous, the clock in hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from micro_core import Change, ChangeKind, Channel, Endpoint, Executed, Filter, Node, Record, filters
from micro_core._calling.nodes import Aperture, NodeList, Target
from micro_core._calling.retry import Budget, Verdict, judge, pause_before
from micro_core.errors import (
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    InternalError,
    LimitExceeded,
    NotFound,
    ProtocolError,
    Timeout,
    Unavailable,
)


class Unused(Channel):
    async def call(self, *arguments: Any) -> Any: ...

    async def open_stream(self, deadline: float) -> Any: ...

    async def aclose(self) -> None: ...


class Nodes:
    """A node list with a clock and dice that the test holds."""

    def __init__(self, number: int, *, version: str = "1") -> None:
        self.now = 100.0
        self.die = 0.5
        self.dropped: list[Channel] = []
        self.nodes = tuple(
            Node(id=f"n{i}", address=f"127.0.0.1:{i + 1}", metadata={"zone": f"z{i}"}) for i in range(number)
        )
        self.list = NodeList("greeter", lambda node: Unused(), self.dropped.append, lambda: self.die)
        self.tell(Record(name="greeter", version=version, nodes=self.nodes))

    def tell(self, *records: Record, kind: ChangeKind = ChangeKind.CREATE) -> None:
        for record in records:
            self.list.apply(Change(kind=kind, record=record))

    def ids(self, *filters: Filter, tried: tuple[str, ...] = ()) -> str:
        return " ".join(node.id for node in self.list.candidates(filters, tried))

    def target(self, id: str) -> Target:
        found = next(node for node in self.nodes if node.id == id)
        target = self.list.target(found)
        assert target is not None
        return target

    def probe(self, seconds: float = 1.0) -> str:
        """Let time pass; return the nodes that are to be probed by then."""
        self.now += seconds
        return " ".join(target.node.id for target in self.list.due(self.now))

    def fail(self, id: str, *, refused: bool = False) -> None:
        self.list.failed(self.target(id), refused=refused, now=self.now)


def test_a_refused_connect_leaves_a_node_out_at_once() -> None:
    nodes = Nodes(3)
    nodes.fail("n1", refused=True)
    assert nodes.ids() == "n0 n2"
    assert repr(nodes.list) == "<NodeList greeter: 3 nodes, 1 ejected>"


def test_one_reset_leaves_no_node_out_and_two_in_a_row_do() -> None:
    nodes = Nodes(3)
    nodes.fail("n1")
    assert nodes.ids() == "n0 n1 n2"
    nodes.fail("n1")
    assert nodes.ids() == "n0 n2"


def test_an_answer_between_two_resets_counts() -> None:
    nodes = Nodes(3)
    nodes.fail("n1")
    nodes.list.succeeded(nodes.target("n1"))
    nodes.fail("n1")
    assert nodes.ids() == "n0 n1 n2"


def test_never_more_than_half_of_the_nodes_are_left_out_for_what_they_did_not_answer() -> None:
    nodes = Nodes(4)
    for id in ("n0", "n1", "n2", "n3") * 3:
        nodes.fail(id)
    assert nodes.ids() == "n2 n3"


def test_all_nodes_that_refuse_connects_are_left_out_as_long_as_there_are_others() -> None:
    nodes = Nodes(4)
    for id in ("n0", "n1", "n2"):
        nodes.fail(id, refused=True)
    assert nodes.ids() == "n3"
    for _ in range(3):
        nodes.fail("n3")  # which may be our side's fault, and is all there is
    assert nodes.ids() == "n3"
    nodes.fail("n3", refused=True)
    assert nodes.ids() == "n0 n1 n2 n3"


def test_the_only_node_is_never_left_out() -> None:
    nodes = Nodes(1)
    nodes.fail("n0", refused=True)
    assert nodes.ids() == "n0"


def test_a_node_left_out_is_used_when_it_is_the_only_one_that_is_left() -> None:
    nodes = Nodes(2)
    nodes.fail("n0", refused=True)
    nodes.list.apply(Change(kind=ChangeKind.DELETE, record=Record(name="greeter", version="1", nodes=nodes.nodes[1:])))
    assert nodes.ids() == "n0"


@pytest.mark.parametrize(("die", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_the_time_out_doubles_from_250_ms_to_30_s_with_jitter(die: float, factor: float) -> None:
    nodes = Nodes(2)
    nodes.die = die
    lengths = []
    nodes.fail("n0", refused=True)
    for _ in range(10):
        lengths.append(nodes.target("n0").health.until - nodes.now)
        assert nodes.probe(lengths[-1]) == "n0"
        nodes.fail("n0")
    assert lengths == pytest.approx([factor * min(0.25 * 2**i, 30) for i in range(10)])


def test_a_node_is_probed_once_at_a_time_and_beside_the_calls() -> None:
    nodes = Nodes(3)
    nodes.fail("n1", refused=True)
    assert nodes.probe(0.24) == ""
    assert nodes.list.next_due == pytest.approx(nodes.now + 0.01)
    assert nodes.probe(0.02) == "n1"
    assert nodes.probe(10) == ""
    assert nodes.list.next_due == math.inf
    assert nodes.ids() == "n0 n2"


def test_a_node_that_answers_the_probe_is_back_on_probation() -> None:
    nodes = Nodes(3)
    nodes.fail("n1", refused=True)
    nodes.probe()
    nodes.list.succeeded(nodes.target("n1"))
    assert nodes.ids() == "n0 n1 n2"
    nodes.fail("n1")
    assert nodes.ids() == "n0 n2"
    assert nodes.target("n1").health.until == pytest.approx(nodes.now + 0.5)


def test_a_node_that_answers_a_call_after_the_probe_is_as_good_as_any() -> None:
    nodes = Nodes(3)
    nodes.fail("n1", refused=True)
    nodes.probe()
    for _ in range(2):
        nodes.list.succeeded(nodes.target("n1"))
    nodes.fail("n1")
    assert nodes.ids() == "n0 n1 n2"


def test_a_probe_that_told_nothing_is_made_again_after_a_while() -> None:
    nodes = Nodes(3)
    nodes.fail("n1", refused=True)
    nodes.probe()
    nodes.list.release(nodes.target("n1"), nodes.now)
    assert nodes.probe(0.24) == ""
    assert nodes.probe(0.02) == "n1"


def test_an_aperture_leaves_each_client_some_nodes_of_many_and_changes_little() -> None:
    nodes = tuple(Node(id=f"n{i}", address=f"10.0.0.1:{i + 1}") for i in range(1000))
    lists = []
    for client in range(200):
        aperture = Aperture(20, lambda client=client: client / 1000)  # type: ignore[misc]
        lists.append(NodeList("greeter", lambda node: Unused(), lambda channel: None, lambda: 0.5, aperture))
        lists[-1].apply(Change(kind=ChangeKind.CREATE, record=Record(name="greeter", version="1", nodes=nodes)))
    used = Counter(node.id for each in lists for node in each.candidates(()))
    assert len(lists[0].candidates(())) == 20
    assert len(used) > 900
    assert max(used.values()) < 20
    before = set(lists[0].candidates(()))
    gone = lists[0].candidates(())[0]
    lists[0].apply(Change(kind=ChangeKind.DELETE, record=Record(name="greeter", version="1", nodes=(gone,))))
    after = set(lists[0].candidates(()))
    assert (len(after), len(after - before), before - after) == (20, 1, {gone})
    target = lists[0].target(next(iter(after)))
    assert target is not None
    lists[0].failed(target, refused=True, now=0.0)
    assert len(lists[0].candidates(())) == 20
    assert target.node not in lists[0].candidates(())


def test_a_node_that_is_stopping_gets_new_connections_once() -> None:
    nodes = Nodes(2)
    target, channel = nodes.target("n0"), nodes.target("n0").channel
    nodes.list.reconnect(target, channel)
    nodes.list.reconnect(target, channel)  # another call that was on the same connection
    assert nodes.dropped == [channel]
    assert nodes.target("n0").channel is not channel


def test_a_retry_goes_to_another_node_even_if_that_is_left_out() -> None:
    nodes = Nodes(2)
    nodes.fail("n1", refused=True)
    assert nodes.ids(tried=("n0",)) == "n1"
    assert nodes.ids(tried=("n0", "n1")) == "n0"


def test_a_fresh_announcement_clears_what_was_held_against_a_node() -> None:
    nodes = Nodes(3)
    nodes.fail("n1", refused=True)
    nodes.list.apply(Change(kind=ChangeKind.UPDATE, record=Record(name="greeter", version="1", nodes=nodes.nodes[1:2])))
    assert nodes.target("n1").health.ejected is False
    assert sorted(nodes.ids().split()) == ["n0", "n1", "n2"]


def test_a_node_that_moves_or_goes_drops_its_channel() -> None:
    nodes = Nodes(3)
    moved, left = nodes.target("n0").channel, nodes.target("n2").channel
    elsewhere = replace(nodes.nodes[0], address="127.0.0.1:99")
    nodes.tell(Record(name="greeter", version="1", nodes=(elsewhere,)), kind=ChangeKind.UPDATE)
    nodes.tell(Record(name="greeter", version="1", nodes=nodes.nodes[2:]), kind=ChangeKind.DELETE)
    assert nodes.dropped == [moved, left]
    assert sorted(nodes.ids().split()) == ["n0", "n1"]


def test_two_processes_with_one_id_are_told_of_and_a_node_that_moves_is_not(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes(2)
    elsewhere = replace(nodes.nodes[0], address="127.0.0.1:99")
    nodes.tell(Record(name="greeter", version="1", nodes=(elsewhere,)), kind=ChangeKind.UPDATE)
    assert not caplog.records
    nodes.tell(Record(name="greeter", version="1", nodes=nodes.nodes[:1]), kind=ChangeKind.UPDATE)
    (told,) = caplog.messages
    assert told == (
        "two processes announce themselves as node n0 of greeter, at 127.0.0.1:99 and 127.0.0.1:1 in turns: "
        "give each its own id"
    )


def test_nodes_of_other_protocols_are_not_called() -> None:
    nodes = Nodes(2)
    grpc = replace(nodes.nodes[0], metadata={"protocol": "grpc"})
    nodes.tell(Record(name="greeter", version="1", nodes=(grpc,)))
    assert nodes.ids() == "n1"


def test_filters_choose_by_version_label_and_endpoint() -> None:
    nodes = Nodes(3)
    old = Record(name="greeter", version="1", nodes=nodes.nodes[:1], endpoints=(Endpoint(name="Greeter.Hello"),))
    new = Record(name="greeter", version="2", nodes=nodes.nodes[1:], endpoints=(Endpoint(name="Greeter.Chat"),))
    nodes.tell(Record(name="greeter", version="1", nodes=nodes.nodes), kind=ChangeKind.DELETE)
    nodes.tell(old, new)
    assert nodes.ids(filters.version("1")) == "n0"
    assert nodes.ids(filters.version("2")) == "n1 n2"
    assert nodes.ids(filters.endpoint("Greeter.Chat")) == "n1 n2"
    assert nodes.ids(filters.version("2"), filters.label("zone", "z2")) == "n2"
    assert nodes.ids(filters.version("3")) == ""
    assert repr((filters.version("1"), filters.label("a", "b"), filters.endpoint("X.Y"))) == (
        "(version('1'), label('a', 'b'), endpoint('X.Y'))"
    )


def test_filters_are_asked_each_time_and_leave_out_who_fails() -> None:
    nodes = Nodes(3)
    asked: list[Sequence[Record]] = []

    def newest(records: Sequence[Record]) -> Sequence[Record]:
        asked.append(records)
        return records

    assert nodes.ids(newest) == "n0 n1 n2"
    nodes.fail("n1", refused=True)
    assert nodes.ids(newest) == "n0 n2"
    assert nodes.ids(newest, tried=("n0", "n2")) == "n1"
    assert len(asked) == 3


def test_what_a_filter_leaves_of_a_record_is_not_taken_for_the_record() -> None:
    nodes = Nodes(3)
    assert nodes.ids() == "n0 n1 n2"
    assert nodes.ids(filters.label("zone", "z1")) == "n1"
    assert nodes.ids(filters.version("1")) == "n0 n1 n2"


FINAL, ELSEWHERE, SHED, LACKING, AGAIN, MISDIRECTED = Verdict
NO, MAYBE = Executed.NO, Executed.MAYBE
ERRORS = [
    (ConnectFailed("x"), False, ELSEWHERE),
    (ConnectionLost("x"), False, FINAL),
    (ConnectionLost("x"), True, AGAIN),
    (Timeout("x", executed=MAYBE), False, FINAL),
    (Timeout("x", executed=MAYBE), True, AGAIN),
    (Timeout("x", executed=NO), False, ELSEWHERE),
    (Timeout("x", executed=Executed.YES), True, FINAL),
    (ProtocolError("x", executed=MAYBE), True, AGAIN),
    (ProtocolError("x", executed=MAYBE), False, FINAL),
    (Unavailable("x", executed=NO), False, SHED),
    (LimitExceeded("x", executed=NO), False, SHED),
    (LimitExceeded("x", code=413, executed=NO), True, FINAL),
    (LimitExceeded("x", code=413, executed=MAYBE), True, AGAIN),
    (LimitExceeded("x", code=413, executed=MAYBE), False, FINAL),
    (NotFound("x", executed=NO), False, LACKING),
    (NotFound("x", id="greeter", executed=NO), False, LACKING),
    (NotFound("x", id="accounts", executed=NO), False, MISDIRECTED),
    (NotFound("x"), True, FINAL),
    (BadRequest("x", executed=NO), True, FINAL),
    (InternalError("x"), True, FINAL),
]


@pytest.mark.parametrize(("error", "idempotent", "verdict"), ERRORS)
def test_what_was_not_executed_is_retried_and_what_may_have_been_only_where_harmless(
    error: Any, idempotent: bool, verdict: Verdict
) -> None:
    assert judge(error, "greeter", idempotent) is verdict


def test_pause_is_nothing_first_and_then_a_random_part_of_a_doubling_span() -> None:
    assert [pause_before(retry, lambda: 1.0) for retry in (1, 2, 3, 4, 20)] == pytest.approx([0, 0.01, 0.02, 0.04, 1.0])
    assert pause_before(3, lambda: 0.5) == pytest.approx(0.01)


def test_the_budget_is_ten_a_second_and_a_fifth_of_the_calls() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    assert sum(budget.spend() for _ in range(200)) == 100
    now = 1.0
    assert sum(budget.spend() for _ in range(200)) == 10
    for _ in range(500):
        budget.earn()
    now = 2.0
    assert sum(budget.spend() for _ in range(200)) == 110


def test_the_budget_lets_one_frozen_node_of_three_be_retried() -> None:
    now = 0.0
    budget = Budget(lambda: now)
    refused = 0
    for call in range(500 * 20):
        now = call / 500
        budget.earn()
        if 10 < now < 11 and call % 3 == 0:  # a second of attempt timeouts until the node is ejected
            refused += not budget.spend()
    assert refused == 0


def test_a_node_whose_address_another_service_has_is_none_until_it_is_announced_anew() -> None:
    nodes = Nodes(2)
    gone = nodes.target("n0")
    nodes.list.departed(gone)
    assert (nodes.ids(), len(nodes.list), len(nodes.dropped)) == ("n1", 1, 1)
    nodes.list.apply(Change(kind=ChangeKind.UPDATE, record=Record(name="greeter", version="1", nodes=nodes.nodes[1:])))
    assert nodes.ids() == "n1"
    nodes.list.apply(Change(kind=ChangeKind.UPDATE, record=Record(name="greeter", version="1", nodes=nodes.nodes[:1])))
    assert set(nodes.ids().split()) == {"n0", "n1"}
    nodes.list.departed(gone)  # what a late answer says of the node before
    assert len(nodes.list) == 2


def test_a_node_that_departed_and_is_still_listed_returns() -> None:
    nodes = Nodes(2)
    first, second = nodes.nodes
    nodes.list.departed(nodes.target("n0"))
    nodes.list.departed(nodes.target("n1"))
    nodes.tell(Record(name="greeter", version="1", nodes=(second,)), kind=ChangeKind.DELETE)
    nodes.list.returned(first)
    nodes.list.returned(second)
    assert nodes.ids() == "n0"
