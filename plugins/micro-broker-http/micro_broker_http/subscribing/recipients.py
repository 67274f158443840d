"""Whom a post is for: the subscription of an id, or those of a topic and queue (docs/protocol.md §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from micro_broker_http.subscribing.inbox import Inbox, ItemId, Ticket
from micro_core import Message

__all__ = ["Recipients", "find_recipients"]


class Recipients:
    """The inboxes of one post: each gets every message, or, where they share, one of them does."""

    def __init__(self, inboxes: Sequence[Inbox], *, shared: bool = False) -> None:
        self.topic = inboxes[0].subscription.topic
        self._inboxes = tuple(inboxes)
        self._shared = shared

    @property
    def leaving(self) -> bool:
        """Whether none of them takes anything more."""
        return all(inbox.leaving for inbox in self._inboxes)

    @property
    def ended(self) -> bool:
        """Whether there is one that acknowledges nothing more."""
        return any(inbox.ended for inbox in self._inboxes)

    @property
    def full(self) -> bool:
        """Whether so much is waiting that the publisher should try later."""
        return (all if self._shared else any)(inbox.full for inbox in self._inboxes)

    @property
    def room(self) -> bool:
        """Whether more messages could be handled at a time than there are."""
        return (any if self._shared else all)(inbox.room for inbox in self._inboxes)

    def take(self, messages: Sequence[tuple[ItemId | None, Message]]) -> Ticket:
        """Give messages to those who are not leaving, of whom there is at least one; `release` the ticket later."""
        self._inboxes = tuple(inbox for inbox in self._inboxes if not inbox.leaving)
        if self._shared:
            ticket = Ticket([self._member(id).take(id, message) for id, message in messages])
        elif len(self._inboxes) == 1:
            take = self._inboxes[0].take
            ticket = Ticket([take(id, message) for id, message in messages])
        else:
            ticket = Ticket(
                [inbox.take(id, _copy(message)) for id, message in messages for inbox in self._inboxes],
                copies=len(self._inboxes),
            )
        for inbox in self._inboxes:
            inbox.hold(ticket)
        return ticket

    def _member(self, id: ItemId | None) -> Inbox:
        """Return who has a message already, or else who has the least to do."""
        known = (inbox for inbox in self._inboxes if inbox.knows(id))
        return next(known, None) or min(self._inboxes, key=lambda inbox: inbox.load)

    def release(self, ticket: Ticket) -> None:
        """Note that the request of a ticket was answered, or is gone."""
        for inbox in self._inboxes:
            inbox.release(ticket)


def find_recipients(inboxes: Mapping[str, Inbox], query: bytes) -> Recipients | None:
    """Return whom the query of a post names: by ``id``, else by ``topic`` and ``queue``; None where there is nobody."""
    try:
        asked = parse_qs(query.decode("latin-1"), max_num_fields=8)
    except ValueError:  # too many fields
        return None
    if "id" in asked:
        named = inboxes.get(asked["id"][0])
        return None if named is None else Recipients([named])
    wanted = asked.get("topic", [""])[0], asked.get("queue", [""])[0]
    found = [inbox for inbox in inboxes.values() if (inbox.subscription.topic, inbox.subscription.queue) == wanted]
    return Recipients(found, shared=bool(wanted[1])) if found else None


def _copy(message: Message) -> Message:
    return Message(dict(message.headers), message.body, message.peer, message.delivery)
