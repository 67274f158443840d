"""A request as its connection hands it to the server: answered once or abandoned, whatever the protocol."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from micro_core import Head, Headers, Request

__all__ = ["ConnectionRequest"]

_logger = logging.getLogger("micro.transport.http")


class Answering(Protocol):
    """The connection a request arrived on."""

    def answer(self, request: Any, head: Head, headers: Headers, body: bytes) -> None:
        """Write the answer to a request."""


class ConnectionRequest(Request):
    """A request that knows which connection its answer goes to."""

    __slots__ = ("connection", "is_bodiless", "is_handed_on", "key")

    connection: Answering | None
    """Where the answer goes; none when it was given, or nobody is there to take it."""
    is_handed_on: bool
    """The server has it, and will answer."""
    is_bodiless: bool
    """Its answer must not have a body."""
    key: bytes
    """Its ``Micro-Id``."""

    def respond(self, head: Head, headers: Headers, body: bytes) -> None:
        connection = self.connection
        if connection is not None:
            self.connection = None
            connection.answer(self, head, headers, body)

    def give_up(self) -> None:
        """Tell the server that nobody waits for this answer."""
        if self.connection is None:
            return
        self.connection = None
        if self.abandon is not None:
            try:
                self.abandon()
            except Exception:
                _logger.exception("abandoning a request failed")
