"""A call's attempts: what is tried next, and what came of what was tried. What may go again is decided in `retry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from micro_core._calling.discovery import Discovery
from micro_core._calling.nodes import NodeList, Target
from micro_core._calling.retry import Budget, Verdict, backoff, judge
from micro_core.client import Attempt, Call
from micro_core.errors import Executed, MicroError, NoNode, NotFound, RegistryError, Timeout
from micro_core.selector import Selector

__all__ = ["AttemptRules", "Attempts", "TargetedAttempt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRules:
    """What holds for the attempts of all calls of a client."""

    discovery: Discovery
    selector: Selector
    budget: Budget
    retries: int
    attempt_timeout: float
    now: Callable[[], float]
    random: Callable[[], float]
    service: str = ""
    """The proxy that gets all calls."""
    follows_registry: bool = True
    """False where the settings name who gets all calls."""


class TargetedAttempt(Attempt):
    """An attempt with what the client keeps about its node."""

    __slots__ = ("attempts", "target")

    def __init__(
        self, attempts: Attempts, target: Target, number: int, deadline: float, metadata: dict[str, str]
    ) -> None:
        # In place of the base's `__init__`: one is made for each call.
        self.call = attempts.call
        self.node = target.node
        self.number = number
        self.deadline = deadline
        self.metadata = metadata
        self.attempts = attempts
        self.target = target


class Attempts:
    """The attempts of one call, one after the other.

    ``coded`` is what the client sends, ``metadata`` goes with every attempt; ``deadline`` is that of the whole call.
    """

    __slots__ = (
        "_failures", "_idempotent", "_last", "_maybe", "_misdirected", "_retries", "_rules", "_started", "_tried",
        "call", "coded", "deadline", "metadata", "nodes", "pause",
    )  # fmt: skip

    def __init__(
        self,
        rules: AttemptRules,
        call: Call,
        nodes: NodeList,
        deadline: float,
        metadata: dict[str, str],
        coded: tuple[Any, bytes],
        idempotent: bool,
    ) -> None:
        self.call = call
        self.nodes = nodes
        self.deadline = deadline
        self.metadata = metadata
        self.coded = coded
        self.pause = 0.0
        """Seconds to wait before the next attempt."""
        self._rules = rules
        self._idempotent = idempotent
        retries = call.options.retries
        self._retries = rules.retries if retries is None else retries
        self._started = rules.now()
        self._tried: list[str] = []
        self._failures: list[str] = []
        self._last: MicroError | None = None
        self._maybe = False
        self._misdirected = False

    def next(self) -> TargetedAttempt:
        """Return the next attempt, its node chosen. Raises `NoNode`, or what the last attempt raised."""
        now = self._rules.now() if self._tried else self._started
        try:
            target = self._choose(now)
        except NoNode as nowhere:
            raise self._nowhere(nowhere) from None
        return TargetedAttempt(self, target, len(self._tried), self._deadline(now), self.metadata.copy())

    def _choose(self, now: float) -> Target:
        call, nodes = self.call, self.nodes
        candidates = nodes.candidates(call.options.filters, now, self._tried)
        if not candidates:
            raise NoNode(
                f"none of the {len(nodes)} nodes of {call.service!r} fits the call's filters: "
                + ", ".join(map(repr, call.options.filters)),
                service=call.service,
            )
        node = candidates[0] if len(candidates) == 1 else self._rules.selector.select(call.service, candidates)
        target = nodes.target(node)
        if target is None:
            raise NoNode(f"the node {node.id} of {call.service!r} has just gone", service=call.service)
        return target

    def _deadline(self, now: float) -> float:
        """Return when an attempt ends that begins now: early where another may follow."""
        wanted = self.call.options.attempt_timeout
        again = len(self._tried) < self._retries and self._idempotent and (len(self.nodes) > 1 or wanted is not None)
        if not again:
            return self.deadline
        return min(self.deadline, now + (self._rules.attempt_timeout if wanted is None else wanted))

    def failed(self, attempt: TargetedAttempt, error: MicroError, started: float) -> None:
        """Take note of what an attempt that began at ``started`` raised.

        Returns where another one is to be made, after ``pause``; else raises what the caller shall see.
        """
        call, node, now = self.call, attempt.node, self._rules.now()
        self._tried.append(node.id)
        error.service, error.node, error.attempts = call.service, node.address, len(self._tried)
        if error.executed is Executed.YES:
            raise error
        self._maybe = self._maybe or error.executed is Executed.MAYBE
        self._failures.append(f"{node.address} ({now - started:.2f} s): {error.detail}")
        verdict = self.ended(attempt, error)
        self._misdirected = verdict is Verdict.MISDIRECTED
        self._last = error
        goes_on = self._goes_on(verdict, error, now)
        error.detail = self._explained(now)
        if self._maybe:
            error.executed = Executed.MAYBE
        if not goes_on:
            raise self._nowhere(NoNode(), error.detail) if self._misdirected else error
        self.pause = min(backoff(len(self._tried), self._rules.random), max(self.deadline - now, 0.0))
        if self._misdirected:
            self._retries += 1  # which costs no retry, since there is one node less
            self.pause = 0.0

    def ended(self, attempt: TargetedAttempt, error: MicroError) -> Verdict:
        """Return what an error says; drop the node if another service answers at its address.

        Who calls an address or through a proxy has chosen it, and is told.
        """
        verdict = judge(error, self.call.service, self._idempotent)
        if verdict is not Verdict.MISDIRECTED:
            return verdict
        if self.call.options.address or not self._rules.follows_registry:
            return Verdict.ELSEWHERE
        self._rules.discovery.departed(self.nodes, attempt.target)
        return verdict

    def _goes_on(self, verdict: Verdict, error: MicroError, now: float) -> bool:
        """Tell whether to go on; what was not executed may be tried at every node, the rest as often as configured."""
        if verdict is Verdict.FINAL or self._retries == 0 or now >= self.deadline:
            return False
        if verdict is Verdict.MISDIRECTED:
            return True
        tried, nodes = len(self._tried), len(self.nodes)
        if not nodes:
            return False
        if isinstance(error, NotFound):
            return tried < nodes and tried <= self._retries and self._rules.budget.spend()
        unexecuted_left = error.executed is Executed.NO and tried < nodes
        return (unexecuted_left or tried <= self._retries) and self._rules.budget.spend()

    @property
    def has_nowhere_to_go(self) -> bool:
        """Whether no node is left, so that one has to be found first."""
        return not self.nodes

    async def look_again(self) -> None:
        """Wait until the registry names a node. Raises what `Discovery.find` does, with what was tried before."""
        service, whole = self._rules.service or self.call.service, bool(self.call.options.filters)
        try:
            self.nodes = await self._rules.discovery.find(service, self.deadline, whole=whole)
        except (NoNode, RegistryError, Timeout) as nowhere:
            raise self._nowhere(nowhere) from None

    def _nowhere(self, error: MicroError, detail: str = "") -> MicroError:
        """Return what to raise where there is no node: the last attempt's error says more.

        Unless another service refused the call: its `NotFound` would look like a handler's.
        """
        last = self._last
        if last is None:
            return error
        if not self._misdirected:
            return last
        error.detail = detail or f"{last.detail}; {error.detail}"
        error.service, error.node = last.service, last.node
        error.attempts, error.executed = last.attempts, last.executed
        return error

    def _explained(self, now: float) -> str:
        """Return where and how long was tried, and what each said."""
        call, failures = self.call, self._failures
        if len(failures) == 1:
            return f"{call.service} {call.endpoint} at {failures[0]}"
        return (
            f"{call.service} {call.endpoint} failed after {now - self._started:.2f} s and {len(failures)} attempts: "
            + "; ".join(failures)
        )
