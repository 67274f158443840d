"""Calls at a fixed rate, whatever becomes of those before, and what came of each."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from micro_core import Client, Executed, MicroError, Node, Selector

__all__ = ["Counting", "Failure", "Outcome", "calling", "load"]


class Counting(Selector):
    """The random selector, which counts where attempts go."""

    name = "counting"
    feedback = True

    def __init__(self) -> None:
        self.attempts: list[str] = []
        self.under_way = 0

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        return random.choice(nodes)

    def started(self, node: Node) -> None:
        self.attempts.append(node.address)
        self.under_way += 1

    def finished(self, node: Node, seconds: float, ok: bool) -> None:
        self.under_way -= 1


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed, and when it was made: seconds from the start of the load."""

    at: float
    error: MicroError


@dataclass
class Outcome:
    """What came of all calls."""

    answers: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    attempts: int = 0
    seconds: float = 0.0

    @property
    def calls(self) -> int:
        return len(self.answers) + len(self.failures)

    @property
    def unexecuted(self) -> int:
        """How many failed though nothing was executed."""
        return sum(failure.error.executed is Executed.NO for failure in self.failures)

    @property
    def keeps_attempts_bounded(self) -> bool:
        """Whether attempts stayed within 1.2 × calls + 10 a second, and what may be saved up over 10 s."""
        return self.attempts <= 1.2 * self.calls + 10 * (self.seconds + 10)

    def first_errors(self) -> str:
        """Return what went wrong first, for whoever has to find out why."""
        return "; ".join(dict.fromkeys(str(failure.error)[:200] for failure in self.failures[:20]))


@asynccontextmanager
async def calling(*addresses: str, **settings: Any) -> AsyncIterator[tuple[Client, Counting]]:
    """Give a client of the greeters at ``addresses``, and what counts its attempts, unless it has another selector."""
    counting = Counting()
    settings.setdefault("selector", counting)
    registry = f"static://?greeter={','.join(addresses)}"
    async with Client(registry=registry, transport="http", broker="memory", **settings) as client:
        yield client, counting


async def load(
    client: Client, selector: Counting, endpoint: str, seconds: float, rate: float, request: Any = "x", **options: Any
) -> Outcome:
    """Make ``rate`` calls a second for so many seconds; return once all have ended."""
    outcome, before, start = Outcome(seconds=seconds), len(selector.attempts), anyio.current_time()

    async def one() -> None:
        began = anyio.current_time()
        try:
            outcome.answers.append(await client.call("greeter", endpoint, request, str, **options))
            outcome.latencies.append(anyio.current_time() - began)
        except MicroError as error:
            outcome.failures.append(Failure(began - start, error))

    async with anyio.create_task_group() as calls:
        for number in range(round(seconds * rate)):
            await anyio.sleep_until(start + number / rate)
            calls.start_soon(one)
    outcome.attempts = len(selector.attempts) - before
    return outcome
