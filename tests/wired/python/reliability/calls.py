"""Rows about calls: where they go when nodes are dead, frozen, slow, lying or leaving."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import anyio

from micro_conformance.proxy import TcpProxy
from micro_core import Timeout, Unavailable

from .liars import lying
from .load import Outcome, calling, load
from .processes import Greeter, closed_port, greeters
from .row import Measured, Pace

__all__ = [
    "dead_nodes", "endless_streams", "equal_shares", "fault_under_load", "frozen_streams", "hedging", "lies",
    "short_patience", "slow_handlers", "stopping_behind_one_address",
]  # fmt: skip

HELLO, CHARGE, SLOW = "Greeter.Hello", "Greeter.Charge", "Greeter.Slow"


def told(is_met: bool, outcome: Outcome, more: str = "") -> Measured:
    text = f"{len(outcome.failures)} of {outcome.calls} failed{more}"
    return Measured(is_met, text if is_met else f"{text}: {outcome.first_errors()}")


async def dead_nodes(pace: Pace, *, endpoint: str) -> Measured:
    """Two of three nodes are closed ports."""
    with ExitStack() as stack:
        (live,) = stack.enter_context(greeters(1))
        dead = [stack.enter_context(closed_port()) for _ in range(2)]
        async with calling(live.address, *dead) as (client, selector):
            outcome = await load(client, selector, endpoint, pace.seconds, pace.rate, idempotent=endpoint == HELLO)
    is_met = not outcome.failures and outcome.attempts <= 1.2 * outcome.calls + 10 * pace.seconds
    return told(is_met, outcome, f", {outcome.attempts / outcome.calls:.2f} attempts a call")


async def fault_under_load(pace: Pace, *, fault: Callable[[Greeter], None], victims: int) -> Measured:
    """Some of three nodes are killed, or freeze, in the middle of it."""
    with greeters(3) as running:
        async with calling(*(greeter.address for greeter in running)) as (client, selector):

            async def break_some() -> None:
                await anyio.sleep(pace.seconds / 3)
                for greeter in running[:victims]:
                    fault(greeter)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(break_some)
                outcome = await load(client, selector, HELLO, pace.seconds, pace.rate, idempotent=True)
    return told(not outcome.failures and outcome.keeps_attempts_bounded, outcome)


async def short_patience(pace: Pace) -> Measured:
    """One of two is frozen, and callers are less patient than an attempt may take."""
    with greeters(2) as running:
        addresses = [greeter.address for greeter in running]
        async with calling(*addresses, client=f"rpc://?attempt_timeout={2 * pace.patience}s") as (client, selector):
            await load(client, selector, HELLO, 0.2, 20, idempotent=True)
            running[0].freeze()
            seconds = max(pace.seconds, 2 * pace.patience)
            outcome = await load(client, selector, HELLO, seconds, pace.rate, idempotent=True, timeout=pace.patience)
    late = [failure for failure in outcome.failures if failure.at > 1.0]
    return told(not late, outcome, f", {len(late)} of them after the first second")


async def slow_handlers(pace: Pace) -> Measured:
    """Healthy nodes take longer than an attempt gets by default."""
    with greeters(2) as running:
        async with calling(*(greeter.address for greeter in running)) as (client, selector):
            outcome = await load(client, selector, SLOW, pace.seconds, 50, 1.2, idempotent=True)
            counts = [
                await client.call("greeter", "Greeter.Counts", "", dict[str, int], address=greeter.address)
                for greeter in running
            ]
    cancelled = sum(each["cancelled"] for each in counts)
    retried = outcome.attempts - outcome.calls
    is_met = not outcome.failures and cancelled <= retried
    return told(is_met, outcome, f", {cancelled} handlers cancelled, {retried} retries made")


async def lies(pace: Pace, *, lie: str) -> Measured:
    """One of three is no service, and answers something."""
    with greeters(2) as running, lying(lie) as liar:
        async with calling(*(greeter.address for greeter in running), liar) as (client, selector):
            outcome = await load(client, selector, HELLO, pace.seconds, pace.rate, idempotent=True)
            asked = selector.attempts.count(liar)
    share = asked / outcome.attempts
    return told(not outcome.failures and share < 0.2, outcome, f", {share:.0%} of the attempts went to the liar")


async def stopping_behind_one_address(pace: Pace) -> Measured:
    """All nodes are behind one address; the one that has the connections stops, and another is there."""
    with greeters(2) as (old, new), TcpProxy(old.address) as proxy:
        async with calling(proxy.address) as (client, selector):

            async def roll() -> None:
                await anyio.sleep(pace.seconds / 3)
                proxy.retarget(new.address)
                old.stop()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(roll)
                outcome = await load(client, selector, CHARGE, pace.seconds, pace.rate)
    both = {old.name, new.name} == set(outcome.answers)
    return told(not outcome.failures and both, outcome, "" if both else f", all by {set(outcome.answers)}")


async def endless_streams(pace: Pace) -> Measured:
    """A node stops that has streams which never end by themselves."""
    told_in: list[float] = []
    others: list[str] = []
    streams, grace, stopped_at = 50, 1.0, 0.0
    with greeters(1, MICRO_SERVER=f"rpc://?stream_grace={grace}") as (node,):
        async with calling(node.address) as (client, _), anyio.create_task_group() as tasks:

            async def listen(begun: anyio.Event) -> None:
                try:
                    async with client.stream("greeter", "Greeter.Endless", str) as stream:
                        await stream.send("x")
                        async for _ in stream:
                            begun.set()
                    others.append("the end of the stream")
                except Unavailable as error:
                    if type(error) is Unavailable and "is stopping" in error.detail:
                        told_in.append(anyio.current_time() - stopped_at)
                    else:
                        others.append(f"{type(error).__name__}: {error}")

            begun = [anyio.Event() for _ in range(streams)]
            for event in begun:
                tasks.start_soon(listen, event)
            for event in begun:
                await event.wait()
            stopped_at = anyio.current_time()
            node.stop()
    slowest = max(told_in, default=0.0)
    is_met = len(told_in) == streams and slowest <= grace + 2 * pace.patience
    told_so = f"{len(told_in)} of {streams} told so, the slowest after {slowest:.1f} s"
    return Measured(is_met, told_so + (f"; others got {others[:3]}" if others else ""))


async def equal_shares(pace: Pace) -> Measured:
    """Three equal nodes, p2c, one call after the other."""
    with greeters(3) as running:
        async with calling(*(greeter.address for greeter in running), selector="p2c") as (client, _):
            answers = Counter([await client.call("greeter", HELLO, "x", str) for _ in range(300)])
    shares = sorted(answers.values())
    return Measured(len(shares) == 3 and shares[0] >= 80 and shares[-1] <= 120, " / ".join(map(str, shares)))


async def frozen_streams(pace: Pace) -> Measured:
    """One of two is frozen, and streams say how long their first answer may take."""
    opened, late = 0, 0
    with greeters(2) as running:
        async with calling(*(greeter.address for greeter in running)) as (client, _):
            running[0].freeze()
            with anyio.move_on_after(5 + 10 * pace.patience):
                while opened < 30:
                    opened += 1
                    stream = client.stream("greeter", "Greeter.Repeat", str, answer_timeout=pace.patience / 2)
                    try:
                        async with stream as answers:
                            await answers.send("x")
                            await answers.receive()
                    except Timeout:
                        late += 1
    return Measured(opened == 30 and late <= 2, f"{late} of {opened} without an answer")


async def hedging(pace: Pace) -> Measured:
    """One of two is frozen, and calls are hedged."""
    with greeters(2) as running:
        async with calling(*(greeter.address for greeter in running)) as (client, selector):
            await load(client, selector, HELLO, 0.2, 20, idempotent=True)
            running[0].freeze()
            outcome = await load(
                client, selector, HELLO, pace.seconds, pace.rate, idempotent=True, hedge_after=0.05, retries=0
            )
    slowest = max(outcome.latencies, default=0.0)
    return told(not outcome.failures and slowest < 1 + pace.patience, outcome, f", the slowest took {slowest:.2f} s")


killed = partial(fault_under_load, fault=Greeter.kill)
frozen = partial(fault_under_load, fault=Greeter.freeze)
