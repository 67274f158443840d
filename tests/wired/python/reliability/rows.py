"""All rows, in the order of the table."""

from __future__ import annotations

from functools import partial

from . import calls, many_nodes, overload
from .liars import LIES
from .row import Row

__all__ = ["ROWS"]

ROWS = (
    Row(
        kind="dead nodes",
        fault="two of three nodes are closed ports, idempotent calls",
        goal="0 failed; attempts ≤ 1.2 × calls + 10/s",
        measure=partial(calls.dead_nodes, endpoint=calls.HELLO),
    ),
    Row(
        kind="dead nodes",
        fault="two of three nodes are closed ports, calls that are not idempotent",
        goal="0 failed; attempts ≤ 1.2 × calls + 10/s",
        measure=partial(calls.dead_nodes, endpoint=calls.CHARGE),
    ),
    Row(
        kind="dead nodes",
        fault="SIGKILL to two of three under load, idempotent calls",
        goal="0 failed",
        measure=partial(calls.killed, victims=2),
    ),
    Row(
        kind="frozen node",
        fault="SIGSTOP to one of three under load, idempotent calls",
        goal="0 failed",
        measure=partial(calls.frozen, victims=1),
    ),
    Row(
        kind="short patience",
        fault="one of two is frozen, and the timeout is shorter than an attempt's",
        goal="0 failed after the first second",
        measure=calls.short_patience,
    ),
    Row(
        kind="frozen node",
        fault="one of two is frozen; 30 streams, one after the other, with an `answer_timeout`",
        goal="at most 2 have no answer in that time",
        measure=calls.frozen_streams,
    ),
    Row(
        kind="slow handlers",
        fault="idempotent handlers of 1.2 s, 50 calls/s, all settings as they are by default",
        goal="0 failed; no handler cancelled for a retry that does not come",
        measure=calls.slow_handlers,
    ),
    *(
        Row(
            kind="lying peers",
            fault=f"one of three answers {lie}, idempotent calls",
            goal="0 failed; the liar gets less than 20 % of the attempts",
            measure=partial(calls.lies, lie=lie),
        )
        for lie in LIES
    ),
    *(
        Row(
            kind="overload",
            fault=f"3 × what a handler that computes for 5 ms can do, from {callers} callers with a timeout of 1 s",
            goal="goodput ≥ 80 % of capacity; 0 failed from 1 s after",
            measure=partial(overload.overloaded, endpoint="Greeter.Compute", callers=callers),
        )
        for callers in (1, 20)
    ),
    Row(
        kind="overload",
        fault="3 × what handlers that wait for one another can do, `MICRO_LIMIT_CALLS_IN_PROGRESS=100`",
        goal="goodput ≥ 80 % of capacity; 0 failed from 1 s after",
        measure=partial(overload.overloaded, endpoint="Greeter.Share", callers=1, MICRO_LIMIT_CALLS_IN_PROGRESS="100"),
    ),
    Row(
        kind="stopping",
        fault="SIGTERM to the node with the connections, all behind one address; calls that are not idempotent",
        goal="0 failed",
        measure=calls.stopping_behind_one_address,
    ),
    Row(
        kind="stopping",
        fault="SIGTERM to a node with 50 endless streams, `stream_grace=1s`",
        goal="each gets `Unavailable` that says so, within 1 s and what is short",
        measure=calls.endless_streams,
    ),
    Row(
        kind="p2c",
        fault="none: 300 sequential calls to three equal nodes",
        goal="each gets 100 ± 20 %",
        measure=calls.equal_shares,
        only_in_report=True,
    ),
    Row(
        kind="hedging",
        fault="one of two is frozen, `hedge_after=0.05, retries=0`",
        goal="0 failed, none waits for the frozen one",
        measure=calls.hedging,
    ),
    Row(
        kind="very many nodes",
        fault="none: 64 callers on 1,000 nodes with `aperture=20`, beside 3 nodes, in turns",
        goal="processor time of a call ≤ 1.1 ×",
        measure=many_nodes.aperture,
        only_in_report=True,
    ),
)
