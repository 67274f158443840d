"""Messages and their headers, as every transport and broker carries them.

Header names have one form everywhere, Go's canonical one (``Micro-Id``, ``Content-Type``; docs/wire.md §2.1), so that a
look-up is a dictionary's. Headers stay bytes until somebody reads them; `Metadata` is the view for people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Generic, TypeAlias, TypeVar

import msgspec

__all__ = ["Delivery", "Headers", "Message", "Metadata", "Topic", "canonical"]

Payload = TypeVar("Payload")

Headers: TypeAlias = dict[bytes, bytes]
"""Header names in canonical form, and their raw values (UTF-8)."""


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """Return a header name in Go's canonical form: ``micro-id`` and ``MICRO-ID`` are ``Micro-Id``."""
    return "-".join(part[:1].upper() + part[1:].lower() for part in name.split("-"))


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How a published message came: what a broker knows of it beside headers and body."""

    id: str
    """What the broker knows the message by: the same at every attempt, and unique within the broker."""
    attempt: int = 1
    """How often it was handed to the handler, this time included."""
    time: float = 0.0
    """When it was published, as `time.time` says it; 0 where that is not known."""
    redelivered: bool = False
    """Whether it may have been handed to a handler before, of this process or another."""


class Message:
    """Headers and a body: one request, one reply, one event."""

    __slots__ = ("body", "delivery", "headers", "peer")

    def __init__(
        self, headers: Headers, body: bytes = b"", peer: tuple[str, ...] = (), delivery: Delivery | None = None
    ) -> None:
        self.headers = headers
        self.body = body
        self.peer = peer
        """The names that the publisher of a message was verified by, as the broker that delivers it found them.

        They are no part of what is sent: a broker ignores those of a message that it publishes.
        """
        self.delivery = delivery
        """How a published message came to its subscriber; None for any other."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.headers == other.headers and self.body == other.body

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Message({sorted(name.decode('utf-8', 'replace') for name in self.headers)}, {len(self.body)} bytes)"


class Metadata(Mapping[str, str]):
    """Header names and values as text: look-ups ignore case, iteration gives canonical names, values never change.

    Bytes that are not UTF-8 are shown as U+FFFD. Values stay out of `repr`, for they may be secrets.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = {canonical(name): value for name, value in (values or {}).items()}

    @classmethod
    def from_headers(cls, headers: Mapping[bytes, bytes]) -> Metadata:
        """Return the headers of a message as text."""
        return cls(
            {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in headers.items()}
        )

    def to_headers(self) -> Headers:
        """Return the values as headers of a message."""
        return {name.encode(): value.encode() for name, value in self._values.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[canonical(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Metadata({sorted(self._values)})"


class Topic(Generic[Payload]):
    """What a topic is called, and the type of its messages: ``ORDERS = Topic("orders", Order)``.

    Publishers and subscribers that share it are checked: by type checkers, and when a service is put together.
    """

    __slots__ = ("name", "type")

    def __init__(self, name: str, type: type[Payload]) -> None:
        self.name = name
        self.type = type

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, {getattr(self.type, '__qualname__', self.type)})"
