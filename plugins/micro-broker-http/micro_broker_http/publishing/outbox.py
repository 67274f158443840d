"""What waits to be sent: an outbox for each queue group and each other subscriber. Decides, does no I/O."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

import anyio

from micro_broker_http.wire.batch import MAX_BATCH, encode_item
from micro_core import Message
from micro_core.delivery import Again

__all__ = ["Letter", "Outbox", "Parcel", "Receipt"]

log = logging.getLogger("micro.broker.http")
MAX_BYTES = 1 << 20
"""Bytes in a batch of more than one message."""


class Parcel:
    """A published message with its number, encoded once for all who get it."""

    __slots__ = ("item", "message", "number", "time", "topic")

    def __init__(self, topic: str, message: Message, number: int, time: float, item: bytes) -> None:
        self.topic = topic
        self.message = message
        self.number = number
        self.time = time
        """When it was published."""
        self.item = item


class Receipt:
    """Tells when every subscriber has handled a message."""

    def __init__(self) -> None:
        self._open: set[Letter] = set()
        self._failed: list[str] = []
        self._settled = anyio.Event()

    def expect(self, letter: Letter) -> None:
        """Wait for one more."""
        self._open.add(letter)

    def settle(self, letter: Letter, failed: Sequence[str] = ()) -> None:
        """Note that one was handled, or dropped by these."""
        self._open.discard(letter)
        self._failed.extend(failed)
        if not self._open:
            self._settled.set()

    async def wait(self) -> None:
        """Wait until each is settled."""
        await self._settled.wait()

    def failed(self) -> list[str]:
        """Return the node ids of those who have not handled the message."""
        return sorted({*self._failed, *(id for letter in self._open for id in letter.outbox.holders(letter))})


class Letter:
    """A parcel on its way to one subscriber or queue group."""

    __slots__ = ("attempt", "holder", "outbox", "parcel", "receipt", "redelivered", "tries")

    def __init__(self, parcel: Parcel, outbox: Outbox, receipt: Receipt | None) -> None:
        self.parcel = parcel
        self.outbox = outbox
        self.receipt = receipt
        self.holder = ""
        """The node id of the member that it was sent to, while that may be handling it."""
        self.tries = 0
        """Posts to Go peers."""
        self.attempt = 1
        """Which attempt of a handler the next one is."""
        self.redelivered = False
        """Whether a handler may have had it."""

    def item(self) -> bytes:
        """Return the parcel as it lies in a batch."""
        if not self.redelivered:
            return self.parcel.item
        parcel = self.parcel
        return encode_item(parcel.number, parcel.message, parcel.time, self.attempt, self.redelivered)


class Outbox:
    """Letters to one subscriber, or to a queue group whose members take from it in turn.

    ``settled`` is told the number of letters that were handled, ``dropped`` of those given up.
    """

    def __init__(
        self,
        *,
        topic: str,
        queue: str,
        most_messages: int,
        most_bytes: int,
        settled: Callable[[int], None],
        dropped: Callable[[int], None],
        choose: Callable[[int], int],
    ) -> None:
        self.topic = topic
        self.queue = queue
        self.members: dict[str, bool] = {}
        """Node ids, and whether each can be reached as far as we know."""
        self.count = 0
        """Letters not settled, those under way included."""
        self._bytes = 0
        self._most_messages = most_messages
        self._most_bytes = most_bytes
        self._settled = settled
        self._dropped = dropped
        self._choose = choose
        self._waiting: deque[Letter] = deque()
        self._resting: set[Letter] = set()
        """Letters that are to be sent again after a pause."""
        self._idle: list[anyio.Event] = []
        self._room = anyio.Event()
        self._last_member = ""
        self.lost = False
        """Whether its subscriber has been out of reach for more than a moment."""
        self._sheds = False
        """Whether messages were dropped since its subscriber was reached."""

    @property
    def waiting(self) -> int:
        """Letters that no member has taken."""
        return len(self._waiting)

    def has_room(self, size: int) -> bool:
        """Whether a message of that many bytes may be added; an empty outbox takes any."""
        return self.count == 0 or (self.count < self._most_messages and self._bytes + size <= self._most_bytes)

    def makes_room(self, size: int) -> bool:
        """Whether a message of that many bytes may be added now; for one subscriber out of reach the oldest go.

        The members of a queue group, and who is slow, hold their publishers up instead.
        """
        if self.has_room(size):
            return True
        if self.queue or not self.lost:
            return False
        lost: list[Letter] = []
        while self._waiting and not self.has_room(size):
            lost.append(self._waiting.popleft())
            self.drop(lost[-1:])
        if lost and not self._sheds:
            self._sheds = True
            log.error(
                "subscriber %s of topic %r is out of reach and its outbox is full: the oldest messages are dropped",
                self._last_member, self.topic,
            )  # fmt: skip
        return self.has_room(size)

    async def room(self) -> None:
        """Wait until something was settled."""
        if self._room.is_set():
            self._room = anyio.Event()
        await self._room.wait()

    def add(self, letter: Letter) -> None:
        """Put a letter at the end."""
        self.count += 1
        self._bytes += len(letter.parcel.item)
        self._waiting.append(letter)
        self._wake()

    def take(self, member: str, most: int = MAX_BATCH) -> list[Letter]:
        """Return what a member should get now: in order, a fair share of what waits, at most a batch."""
        reachable = sum(self.members.values()) or 1
        most = min(most, -(-len(self._waiting) // reachable))
        taken: list[Letter] = []
        size = 0
        while self._waiting and len(taken) < most:
            size += len(self._waiting[0].parcel.item)
            if taken and size > MAX_BYTES:
                break
            letter = self._waiting.popleft()
            letter.holder = member
            taken.append(letter)
        return taken

    def put_back(self, letters: Sequence[Letter]) -> None:
        """Put letters that were taken to the front again, in their order, for any member."""
        for letter in letters:
            letter.holder = ""
        self._waiting.extendleft(reversed(letters))
        self._wake()

    def rest(self, letter: Letter, again: Again) -> None:
        """Hold back a letter that is to be sent again, until `wake`."""
        letter.holder = ""
        letter.attempt, letter.redelivered = again.attempt, True
        self._resting.add(letter)

    def wake(self, letter: Letter) -> None:
        """Put a letter that rested to the front, unless it was given up meanwhile."""
        if letter in self._resting:
            self._resting.remove(letter)
            self.put_back([letter])

    def settle(self, letters: Iterable[Letter]) -> None:
        """Forget letters that were handled."""
        done = list(letters)
        self._forget(done)
        for letter in done:
            if letter.receipt:
                letter.receipt.settle(letter)
        self._settled(len(done))

    def drop(self, letters: Iterable[Letter]) -> int:
        """Give letters up, and return how many that were."""
        lost = list(letters)
        for letter in lost:
            if letter.receipt:
                letter.receipt.settle(letter, self.holders(letter))
        self._forget(lost)
        self._dropped(len(lost))
        return len(lost)

    def take_all(self) -> list[Letter]:
        """Return everything that no member has taken, to be dropped."""
        letters = [*self._waiting, *self._resting]
        self._waiting.clear()
        self._resting.clear()
        return letters

    def _forget(self, letters: Sequence[Letter]) -> None:
        self.count -= len(letters)
        self._bytes -= sum(len(letter.parcel.item) for letter in letters)
        if letters:
            self._room.set()

    def holders(self, letter: Letter) -> list[str]:
        """Return the node ids of those who should handle a letter."""
        return [letter.holder] if letter.holder else sorted(self.members) or [self._last_member]

    def join(self, member: str) -> None:
        """Add a member of the queue group, or the one subscriber."""
        self.members[member] = True
        self._last_member = member

    def leave(self, member: str) -> None:
        """Remove a member."""
        self.members.pop(member, None)
        self._wake_all()

    def reach(self, member: str, reachable: bool) -> None:
        """Note whether a member can be reached."""
        if member in self.members:
            self.members[member] = reachable
        if reachable:
            self.lost = self._sheds = False

    def lose(self) -> None:
        """Note that the subscriber is out of reach for more than a moment; who waits for room gets it at once."""
        self.lost = True
        self._room.set()

    async def work(self) -> None:
        """Wait until there is something to take, one of those who wait being chosen for each letter."""
        woken = anyio.Event()
        self._idle.append(woken)
        try:
            await woken.wait()
        finally:
            if woken in self._idle:
                self._idle.remove(woken)
            elif self._waiting:
                self._wake()  # cancelled after it was chosen: let another go

    def _wake(self) -> None:
        for _ in range(min(len(self._waiting), len(self._idle))):
            self._idle.pop(self._choose(len(self._idle))).set()

    def _wake_all(self) -> None:
        while self._idle:
            self._idle.pop().set()
