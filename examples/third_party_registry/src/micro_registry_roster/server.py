"""The server: nodes in memory, forgotten when their time is over, and told to whoever watches."""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass

import anyio
import msgspec
from anyio.abc import ByteStream

from micro_core import SYNC, Change, ChangeKind, Record

from .wire import HEARTBEAT_SECONDS, Answer, Latest, Lines, Request

__all__ = ["Roster"]

Place = tuple[str, str, str]
"""Space, service and node id."""


@dataclass(frozen=True)
class Entry:
    """A node, with what belongs to it."""

    record: Record
    owner: str
    expires: float


class Roster:
    """Answers requests that carry ``secret``."""

    def __init__(self, secret: str = "") -> None:
        self._secret = secret
        self._entries: dict[Place, Entry] = {}
        self._watches: dict[Latest, tuple[str, str | None]] = {}

    async def serve(self, stream: ByteStream) -> None:
        """Answer the one request of a connection."""
        lines = Lines(stream)
        try:
            with anyio.fail_after(5.0):
                request = await lines.receive(Request)
            if not hmac.compare_digest(request.secret.encode(), self._secret.encode()):
                await lines.send(Answer(error="the secret is wrong", permanent=True))
            elif request.do == "watch":
                await self._watch(lines, request)
            else:
                self._change(request)
                await lines.send(Answer())
        except (OSError, ValueError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass  # who asked has gone, or spoke nonsense
        finally:
            await lines.aclose()

    def _change(self, request: Request) -> None:
        self.expire()
        record, owner = request.record, request.owner
        if request.do == "register" and record is not None:
            expires = anyio.current_time() + request.ttl if request.ttl else math.inf
            for node in record.nodes:
                alone = msgspec.structs.replace(record, nodes=(node,))
                self._put((request.space, record.name, node.id), Entry(alone, owner, expires))
        elif request.do == "deregister" and record is not None:
            for node in record.nodes:
                self._remove((request.space, record.name, node.id), owner)
        elif request.do == "leave":
            for place in list(self._entries):
                self._remove(place, owner)
        else:
            raise ValueError(f"nobody knows how to {request.do}")

    def _put(self, place: Place, entry: Entry) -> None:
        known = self._entries.get(place)
        if known is not None and known.record.version != entry.record.version:
            self._remove(place, known.owner)
            known = None
        self._entries[place] = entry
        if known is None or known.record != entry.record:
            self._tell(place, ChangeKind.UPDATE if known else ChangeKind.CREATE, entry.record)

    def _remove(self, place: Place, owner: str) -> None:
        entry = self._entries.get(place)
        if entry is not None and entry.owner == owner:
            del self._entries[place]
            self._tell(place, ChangeKind.DELETE, entry.record)

    def _tell(self, place: Place, kind: ChangeKind, record: Record) -> None:
        for latest, (space, name) in self._watches.items():
            if space == place[0] and name in (None, place[1]):
                latest.put(Change(kind=kind, record=record))

    def expire(self) -> None:
        """Forget the nodes whose time is over."""
        now = anyio.current_time()
        for place, entry in list(self._entries.items()):
            if entry.expires <= now:
                self._remove(place, entry.owner)

    async def _watch(self, lines: Lines, request: Request) -> None:
        self.expire()
        latest = Latest()
        for (space, name, _), entry in self._entries.items():
            if space == request.space and request.name in (None, name):
                latest.put(Change(kind=ChangeKind.CREATE, record=entry.record))
        latest.put(SYNC)
        self._watches[latest] = request.space, request.name
        try:
            while True:
                change = None
                with anyio.move_on_after(HEARTBEAT_SECONDS):
                    change = await anext(latest)
                await lines.send(Answer(change=change))
        finally:
            del self._watches[latest]

    async def sweep(self) -> None:
        """Forget nodes in time, for as long as this runs."""
        while True:
            now = anyio.current_time()
            soonest = min((entry.expires for entry in self._entries.values()), default=math.inf)
            await anyio.sleep(min(max(soonest - now, 0.01), 0.1))
            self.expire()
