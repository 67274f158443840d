"""500 calls/s to three servers while one of them dies or freezes; exits 1 when an idempotent call fails.

Calls are made on time whatever became of those before; latencies count from the moment a call was due.
"""

import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import anyio
from peers.messages import Greeting, Hello
from peers.processes import LOOPBACK, SERVICE, serving

from micro_core import Client, MicroError, Node, Selector

PER_SECOND = 500
SECONDS = 6
FAULT_AT = 2


class Counting(Selector):
    """The random selector, counting attempts."""

    name = "counting"
    feedback = True

    def __init__(self) -> None:
        self.attempts = 0

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        return random.choice(nodes)

    def started(self, node: Node) -> None:
        self.attempts += 1


@dataclass
class Outcome:
    latencies: list[float] = field(default_factory=list)
    errors: list[MicroError] = field(default_factory=list)
    attempts: int = 0

    def __str__(self) -> str:
        ordered = sorted(self.latencies)
        calls = len(ordered) + len(self.errors)
        p50, p99 = (ordered[int(len(ordered) * share)] * 1e3 for share in (0.5, 0.99))
        return (
            f"{calls:>7}{len(self.errors):>8}{self.attempts - calls:>9}{p50:>11.1f}{p99:>9.1f}{ordered[-1] * 1e3:>9.1f}"
        )


def main() -> int:
    os.environ.update(LOOPBACK)
    print(f"{'':12}{'calls':>7}{'failed':>8}{'retried':>9}{'p50 ms':>11}{'p99 ms':>9}{'max ms':>9}")
    failed = 0
    for name, fault in (("no fault", None), ("SIGKILL", signal.SIGKILL), ("SIGSTOP", signal.SIGSTOP)):
        outcome = run(fault)
        print(f"{name:12}{outcome}", flush=True)
        for error in outcome.errors[:3]:
            print(f"    {error!r}")
        failed += len(outcome.errors)
    return 1 if failed else 0


def run(fault: signal.Signals | None) -> Outcome:
    with ExitStack() as running:
        servers = [running.enter_context(serving("on_micro"))[0] for _ in range(3)]
        options = {"use_uvloop": True}
        return anyio.run(call_through, servers[0].pid, fault, backend_options=options)


async def call_through(victim: int, fault: signal.Signals | None) -> Outcome:
    """Make all calls, with the fault in between; the servers are found as by any client."""
    selector, outcome = Counting(), Outcome()
    async with Client(selector=selector) as client:
        await client.call(SERVICE, "Greeter.Hello", Hello("warm-up"), Greeting)
        selector.attempts = 0
        start = time.perf_counter()
        async with anyio.create_task_group() as calls:
            for number in range(PER_SECOND * SECONDS):
                due = start + number / PER_SECOND
                await anyio.sleep(max(due - time.perf_counter(), 0))
                if fault is not None and number == PER_SECOND * FAULT_AT:
                    os.kill(victim, fault)
                calls.start_soon(call, client, due, outcome)
    outcome.attempts = selector.attempts
    return outcome


async def call(client: Client, due: float, outcome: Outcome) -> None:
    try:
        await client.call(SERVICE, "Greeter.Hello", Hello("John"), Greeting)
        outcome.latencies.append(time.perf_counter() - due)
    except MicroError as error:
        outcome.errors.append(error)


if __name__ == "__main__":
    sys.exit(main())
