"""A call's attempts: what is tried next, and what came of what was tried. What may go again is decided in `retry`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from micro_core._calling.call_coding import CallCoding
from micro_core._calling.discovery import Discovery
from micro_core._calling.nodes import NodeList, Target
from micro_core._calling.retry import Budget, Verdict, is_stopping, judge, pause_before
from micro_core.client import Attempt, Call
from micro_core.errors import (
    ConnectFailed,
    ConnectionLost,
    Executed,
    LimitExceeded,
    MicroError,
    NoNode,
    ProtocolError,
    RegistryError,
    Timeout,
)
from micro_core.selector import Selector

__all__ = ["AttemptRules", "Attempts", "TargetedAttempt"]

ATTEMPTS_AT_ONE_NODE = 3
"""Attempts of a call that was not executed where there is no other node, the first included."""
SLOWER = 1.5
"""The shortest time of an attempt, as a multiple of the longest that its endpoint was seen to take."""


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
    probe: Callable[[NodeList, Target], None]
    """Probes an ejected node, beside the calls."""
    service: str = ""
    """The proxy that gets all calls."""
    follows_registry: bool = True
    """False where the settings name who gets all calls."""


class TargetedAttempt(Attempt):
    """An attempt with what the client keeps about its node."""

    __slots__ = ("attempts", "channel", "target")

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
        self.channel = target.channel


class Attempts:
    """The attempts of one call, one after the other.

    ``request`` is the body to send, ``metadata`` goes with every attempt; ``deadline`` is that of the whole call, and
    ``started`` when it began. What most calls never need are attributes of the class.
    """

    stream_deadline = math.inf
    """Where a stream is being opened: when that stream has to end."""
    pause = 0.0
    """Seconds to wait before the next attempt."""
    has_token = False
    """Whether a token of the budget is in hand, for the next retry; who ends the call gives it back."""
    _tried: tuple[str, ...] = ()
    _failures: tuple[str, ...] = ()
    _last: MicroError | None = None
    _maybe = False
    _misdirected = False

    def __init__(
        self,
        rules: AttemptRules,
        call: Call,
        nodes: NodeList,
        started: float,
        deadline: float,
        metadata: dict[str, str],
        coding: CallCoding,
        request: bytes,
        idempotent: bool,
    ) -> None:
        self.call = call
        self.nodes = nodes
        self.deadline = deadline
        self.metadata = metadata
        self.coding = coding
        self.request = request
        self._rules = rules
        self._idempotent = idempotent
        retries = call.options.retries
        self._retries = rules.retries if retries is None else retries
        self._started = started

    def next(self) -> TargetedAttempt:
        """Return the next attempt, its node chosen. Raises `NoNode`, or what the last attempt raised."""
        tried = self._tried
        now = self._rules.now() if tried else self._started
        if now >= self.nodes.next_due:
            for due in self.nodes.due(now):
                self._rules.probe(self.nodes, due)
        try:
            target = self._choose(tried)
        except NoNode as nowhere:
            raise self._nowhere(nowhere) from None
        if self._idempotent:
            deadline = self._deadline(now)
        else:
            deadline = self._opening_deadline(now) if self.call.streaming else self.deadline
        self._latest_began = now
        self._latest = latest = TargetedAttempt(self, target, len(tried), deadline, self.metadata.copy())
        return latest

    def _choose(self, tried: Sequence[str]) -> Target:
        call, nodes = self.call, self.nodes
        candidates = nodes.candidates(call.options.filters, tried)
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
        """Return when an attempt of an idempotent call ends that begins now: early where another is paid for.

        Of what is left it gets a share, but longer than the endpoint was seen to take; the other one needs time too.
        """
        deadline, seconds, slowest = self.deadline, self.call.options.attempt_timeout, self.coding.slowest
        retries = self._retries - len(self._tried)
        if retries <= 0:
            return deadline
        if seconds is None:
            if self.nodes.is_lone:
                return deadline
            seconds, share = self._rules.attempt_timeout, (deadline - now) / (retries + 1)
            if share < seconds:
                seconds = share
            if seconds < SLOWER * slowest:
                seconds = SLOWER * slowest
        if now + seconds + slowest >= deadline:
            return deadline
        if not self.has_token:
            self.has_token = self._rules.budget.spend()
        return now + seconds if self.has_token else deadline

    def _opening_deadline(self, now: float) -> float:
        """Return when an attempt to open a stream ends: early where another node is free to be tried."""
        if self._retries == 0 or self.nodes.is_lone:
            return self.deadline
        seconds = self.call.options.attempt_timeout
        return now + min(self._rules.attempt_timeout if seconds is None else seconds, (self.deadline - now) / 2)

    def hedge(self) -> TargetedAttempt:
        """Return an attempt to make beside the one under way, at another node, for a token of the budget.

        Raises `NoNode` where there is none of either.
        """
        beside = [*self._tried, self._latest.node.id]
        target = self._choose(beside)
        if target.node.id in beside or not self._rules.budget.spend():
            raise NoNode(f"no other node of {self.call.service!r}, or no retry left in the budget")
        return TargetedAttempt(self, target, len(beside), self.deadline, self.metadata.copy())

    def hedge_won(self) -> None:
        """Note that the attempt under way was beaten: it counts as one that was not answered in time."""
        error = Timeout("another node answered before", executed=Executed.MAYBE)
        self.count_against(self._latest, error, self._latest_began)

    def hedge_failed(self, attempt: TargetedAttempt, error: MicroError) -> None:
        """Note what the attempt beside the first one raised."""
        self._maybe = self._maybe or error.executed is not Executed.NO
        self._tried = (*self._tried, attempt.node.id)
        self._failures = (*self._failures, f"{attempt.node.address} (hedged): {error.detail}")
        self.ended(attempt, error)

    def _spend(self) -> bool:
        """Take the token for a retry, unless one is in hand; False where the budget is used up."""
        had, self.has_token = self.has_token, False
        return had or self._rules.budget.spend()

    def give_back_token(self) -> None:
        """Return the token in hand to the budget: the call is over, and the retry was not needed."""
        self.has_token = False
        self._rules.budget.give_back()

    def failed(self, attempt: TargetedAttempt, error: MicroError) -> None:
        """Take note of what an attempt raised.

        Returns where another one is to be made, after ``pause``; else raises what the caller shall see.
        """
        call, node, now = self.call, attempt.node, self._rules.now()
        self._tried = (*self._tried, node.id)
        error.service, error.node, error.attempts = call.service, node.address, len(self._tried)
        if error.executed is Executed.YES:
            raise error
        self._maybe = self._maybe or error.executed is Executed.MAYBE
        self._failures = (*self._failures, f"{node.address} ({now - self._latest_began:.2f} s): {error.detail}")
        verdict = self.ended(attempt, error)
        self._misdirected = verdict is Verdict.MISDIRECTED
        self._last = error
        goes_on = now < self.deadline and self._retries > 0 and self._goes_on(verdict)
        error.detail = self._explained(now)
        if self._maybe:
            error.executed = Executed.MAYBE
        if not goes_on:
            raise self._nowhere(NoNode(), error.detail) if self._misdirected else error
        self.pause = 0.0
        if self._misdirected:
            self._retries += 1  # which costs no retry, since there is one node less
        elif not self.nodes.has_healthy_besides(self._tried):
            self.pause = min(pause_before(len(self._tried), self._rules.random), self.deadline - now)

    def ended(self, attempt: TargetedAttempt, error: MicroError) -> Verdict:
        """Return what an error says; drop the node if another service answers at its address.

        Who calls an address or through a proxy has chosen it, and is told. Of a node that is stopping the connections
        are left: its address may stand for several processes.
        """
        if is_stopping(error):
            self.nodes.reconnect(attempt.target, attempt.channel)
            self.nodes.failed(attempt.target, refused=True, now=self._rules.now())
        verdict = judge(error, self.call.service, self._idempotent)
        if verdict is not Verdict.MISDIRECTED:
            return verdict
        if self.call.options.address or not self._rules.follows_registry:
            return Verdict.LACKING
        self._rules.discovery.departed(self.nodes, attempt.target)
        return verdict

    def count_against(self, attempt: TargetedAttempt, error: MicroError, started: float) -> bool:
        """Count what the transport raised against the node; return False for what tells nothing of the node.

        No answer in time counts however short the time was, unless the node has answered anybody meanwhile.
        """
        target = attempt.target
        match error:
            case ConnectFailed() | ConnectionLost() | ProtocolError():
                pass
            case LimitExceeded() if error.executed is Executed.MAYBE:
                pass  # a reply beyond all limits
            case Timeout() if target.answered < started < attempt.deadline:
                pass
            case _:
                return False
        self.nodes.failed(target, refused=isinstance(error, ConnectFailed), now=self._rules.now())
        return True

    def _goes_on(self, verdict: Verdict) -> bool:
        """Tell whether there is another attempt: where nothing was executed at every node, else as often as allowed.

        What nobody had work with is free, as long as there is a node that is not ejected.
        """
        tried, nodes = len(self._tried), len(self.nodes)
        match verdict:
            case Verdict.MISDIRECTED:
                return True
            case Verdict.ELSEWHERE if self.nodes.has_healthy_besides(self._tried):
                return True
            case Verdict.ELSEWHERE:
                return nodes > 0 and tried < (nodes if nodes > 1 else ATTEMPTS_AT_ONE_NODE) and self._spend()
            case Verdict.SHED:
                return (tried < nodes or (nodes > 0 and tried <= self._retries)) and self._spend()
            case Verdict.LACKING:
                return tried < nodes and tried <= self._retries and self._spend()
            case Verdict.AGAIN:
                return nodes > 0 and tried <= self._retries and self._spend()
        return False

    @property
    def may_have_been_executed(self) -> bool:
        """Whether any attempt that failed may have been executed."""
        return self._maybe

    @property
    def has_nowhere_to_go(self) -> bool:
        """Whether no node is left, so that one has to be found first."""
        return not self.nodes

    async def look_again(self) -> None:
        """Wait until the registry names a node. Raises what `Discovery.find` does, with what was tried before."""
        service, whole = self._rules.service or self.call.service, bool(self.call.options.filters)
        try:
            self.nodes = await self._rules.discovery.find(
                service, self.deadline, whole=whole, wait_for_ready=self.call.options.wait_for_ready
            )
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
