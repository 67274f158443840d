"""Carries letters from an outbox to one subscriber, until it is gone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import anyio
import httpx

from micro_broker_http.publishing.outbox import Letter, Outbox
from micro_broker_http.publishing.post import Verdict, post_batch, post_envelope
from micro_broker_http.settings import Settings
from micro_broker_http.wire.batch import MAX_BATCH, AckReader
from micro_broker_http.wire.naming import Subscriber
from micro_core.backoff import backoff

__all__ = ["Courier", "Means"]

log = logging.getLogger("micro.broker.http")
TRIES = 2
"""How often a message is sent to Go peers: where a connection fails, once more, if possible to another member."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds below which the next attempt is made: after one failure, and after many."""
A_MOMENT = 1.0
"""Seconds of failures after which a subscriber with a full outbox holds nobody up any more."""
CLOSING_SECONDS = 1.0
"""How long the connections to a subscriber have to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What couriers share."""

    new_client: Callable[[], httpx.AsyncClient]
    """One for each subscriber: httpx goes through all connections of a client for every request."""
    publisher: bytes
    settings: Settings
    later: Callable[[float, Callable[[], None]], None]
    """Calls a function after some seconds."""
    check: Callable[[Subscriber, bool], Awaitable[None]]
    """Asks the registry about one that has failed for long, unless it says itself that it is gone; has its courier
    dismissed or stopped if it is."""


class Courier:
    """Sends to one subscriber: to a peer of ours one batch at a time, to a Go peer single messages on a few lanes."""

    def __init__(self, outbox: Outbox, to: Subscriber, means: Means) -> None:
        self.to = to
        self.held: set[Letter] = set()
        """Letters taken from the outbox and not settled."""
        self._outbox = outbox
        self._means = means
        self._client = means.new_client()
        self._scope = anyio.CancelScope()
        self._gone = anyio.Event()
        self._failing_since: float | None = None
        self._failures = 0
        """Batches in a row that acknowledged nothing, over all the letters that were tried."""

    def dismiss(self) -> None:
        """Take nothing more; what is under way may end, and goes back to the outbox where it fails."""
        self._gone.set()
        self._outbox.leave(self.to.id)

    def stop(self) -> None:
        """End at once."""
        self._scope.cancel()

    async def run(self) -> None:
        """Send until dismissed or stopped."""
        try:
            with self._scope:
                if self.to.ours:
                    await self._work(MAX_BATCH)
                    return
                async with anyio.create_task_group() as lanes:
                    for _ in range(self._means.settings.go_in_flight):
                        lanes.start_soon(self._work, 1)
        finally:
            with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                await self._client.aclose()

    async def _work(self, most: int) -> None:
        while not self._gone.is_set():
            letters = self._outbox.take(self.to.id, most)
            if not letters:
                await self._outbox.work()
                continue
            self.held.update(letters)
            await (self._deliver(letters) if self.to.ours else self._deliver_to_go(letters[0]))

    async def _deliver(self, letters: list[Letter]) -> None:
        """Send letters to a peer of ours until it has handled them, or another member should."""
        while letters:
            before = len(letters)
            verdict = await self._post(letters)
            if verdict is Verdict.DONE:
                break
            if verdict is Verdict.MORE:
                more = self._outbox.take(self.to.id, MAX_BATCH - len(letters))
                self.held.update(more)
                letters += more
                continue
            self._failures = self._failures + 1 if len(letters) == before else 1
            if verdict is Verdict.BROKEN:
                for letter in letters:
                    letter.redelivered = True
            if verdict is Verdict.REFUSED:
                return await self._deliver_singly(letters)
            if verdict is Verdict.GONE and not (self._outbox.queue or self.to.returns):
                return self._give_up(self._outbox.take_all() + letters, "its subscription is gone")
            for_others = self._outbox.queue and (verdict is not Verdict.BROKEN or self._gone.is_set())
            if for_others or verdict is Verdict.NOT_REACHED:
                self._return(letters)
                await self._rest(self._failures, gone=verdict is Verdict.GONE)
                return None
            await self._rest(self._failures)
        self._succeed()
        return None

    async def _post(self, letters: list[Letter]) -> Verdict:
        """Send a batch once, or until a subscriber with room can have more; what is acknowledged leaves ``letters``."""
        size = len(letters)
        listening = False

        def acknowledged(answer: AckReader) -> None:
            first = size - len(letters)
            done = letters[: answer.acknowledged - first]
            del letters[: len(done)]
            self._acknowledge(dict(enumerate(done, first)), answer)

        async def interrupt() -> None:
            if not self._outbox.waiting:
                await self._outbox.work()
            group.cancel_scope.cancel()

        def room() -> None:
            nonlocal listening
            if not listening and size < MAX_BATCH:
                listening = True
                group.start_soon(interrupt)

        verdict = Verdict.MORE
        async with anyio.create_task_group() as group:
            verdict = await post_batch(self._client, self.to, self._means.publisher, list(letters), acknowledged, room)
            group.cancel_scope.cancel()
        return verdict

    def _acknowledge(self, letters: dict[int, Letter], answer: AckReader) -> None:
        """Settle letters, by their place in the batch, as the answer says."""
        self.held.difference_update(letters.values())
        handled, in_vain = [], []
        for index, letter in letters.items():
            if again := answer.again.get(index):
                self._outbox.rest(letter, again)
                self._means.later(again.after, partial(self._outbox.wake, letter))
            elif index in answer.given_up:
                in_vain.append(letter)
            else:
                handled.append(letter)
        self._outbox.settle(handled)
        if in_vain:
            self._give_up(in_vain, "their handler failed every time")

    async def _deliver_singly(self, letters: list[Letter]) -> None:
        """Find out which letters of a refused batch are to blame, and give those up."""
        if len(letters) == 1:
            return self._give_up(letters, "it was refused")
        for letter in letters:
            await self._deliver([letter])
        return None

    async def _deliver_to_go(self, letter: Letter) -> None:
        verdict = await post_envelope(self._client, self.to, letter)
        letter.tries += 1
        if verdict is Verdict.REFUSED:
            self._give_up([letter], "it was refused")
            self._succeed()
        elif verdict is Verdict.DONE:
            self.held.discard(letter)
            self._outbox.settle([letter])
            self._succeed()
        elif letter.tries >= TRIES:
            self._give_up([letter], "the connection failed")
        else:
            self._return([letter])
            await self._rest(1)

    def _return(self, letters: list[Letter]) -> None:
        self.held.difference_update(letters)
        self._outbox.reach(self.to.id, False)
        self._outbox.put_back(letters)

    def _give_up(self, letters: list[Letter], why: str) -> None:
        self.held.difference_update(letters)
        if count := self._outbox.drop(letters):
            log.error("%d messages of topic %r for subscriber %s dropped: %s", count, self.to.topic, self.to.id, why)

    def _succeed(self) -> None:
        self._failing_since = None
        self._failures = 0
        self._outbox.reach(self.to.id, True)

    async def _rest(self, failures: int, *, gone: bool = False) -> None:
        """Wait before the next attempt, or until dismissed; ``gone`` where the subscriber says that it is."""
        self._outbox.reach(self.to.id, False)
        settings = self._means.settings
        now = settings.clock()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since >= A_MOMENT:
            self._outbox.lose()
        if now - self._failing_since >= settings.keep:
            await self._means.check(self.to, gone)
            if gone and not self._outbox.members:
                return self._give_up(self._outbox.take_all(), "every member of its queue is gone")
        async with anyio.create_task_group() as group:

            async def wait() -> None:
                await settings.sleep(backoff(failures, settings.random, first=FIRST_PAUSE, longest=LONGEST_PAUSE))
                group.cancel_scope.cancel()

            group.start_soon(wait)
            await self._gone.wait()
            group.cancel_scope.cancel()
        return None

    def __repr__(self) -> str:
        return f"<Courier to {self.to.id!r} at {self.to.address}, {len(self.held)} under way>"
