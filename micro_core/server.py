"""The server's contract: handlers behind an address."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, ClassVar, TypeAlias

import msgspec

from micro_core.context import Context
from micro_core.errors import MicroError
from micro_core.message import Message
from micro_core.transport import Limits

__all__ = ["Handler", "HandlerKind", "OnEvent", "Running", "Server"]

OnEvent: TypeAlias = Callable[[str, Message, Context], Awaitable[None]]
"""Takes topic, message and context of an event that came to the rpc port (docs/wire.md §4.3)."""


class HandlerKind(StrEnum):
    """Which sides of a call are streams."""

    UNARY = "unary"
    SERVER_STREAM = "server-stream"
    CLIENT_STREAM = "client-stream"
    BIDIRECTIONAL = "bidirectional"


class Handler(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint and the function behind it."""

    name: str
    """``Greeter.Hello``."""
    kind: HandlerKind
    function: Callable[[Context, Any], Any]
    """Takes context and request, or an iterator of requests; returns an awaitable of the reply, or an iterator."""
    request_type: object
    response_type: Any
    idempotent: bool = False
    internal: bool = False
    """Answered, but not listed in the registry."""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    description: str = ""
    errors: tuple[type[MicroError], ...] = ()
    """The application's own error classes that it may raise."""


class Running(ABC):
    """A server that listens."""

    @property
    @abstractmethod
    def address(self) -> str:
        """The address bound, ``host:port``."""

    @abstractmethod
    async def drain(self) -> None:
        """Take no new connection, refuse new calls as not executed, and return when those in flight are done.

        Waits as long as the caller's scope allows; what is left is cancelled when the server's context is left.
        """

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """How many calls and streams are being handled."""


class Server(ABC):
    """Answers calls. Stateless until it serves."""

    name: ClassVar[str]

    @abstractmethod
    def serve(
        self, service: str, address: str, handlers: Mapping[str, Handler], on_event: OnEvent, limits: Limits
    ) -> AbstractAsyncContextManager[Running]:
        """Listen on ``address`` and answer for ``handlers`` until the context is left. Raises `ConfigError`."""

    @property
    @abstractmethod
    def metadata(self) -> Mapping[str, str]:
        """What nodes of this server carry, ``protocol`` among it (docs/wire.md §1.10)."""
