"""The TLS handshake of a link: its deadline, what a peer is told when it fails, and who owns the link afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .link import Driver, Link, MakeOwner, Owner, Timer
from .tls import TlsFailure, TlsSession

__all__ = ["Handshake", "unsealed"]

_logger = logging.getLogger("micro.transport.http")

_LINGER_SECONDS = 2.0


class Handshake(Owner):
    """Owns a link until the handshake is done, then makes the owner that speaks the negotiated protocol."""

    def __init__(
        self, driver: Driver, link: Link, session: TlsSession, make_owner: MakeOwner, *, is_listener: bool = False
    ) -> None:
        self._link = link
        self._session = session
        self._make_owner = make_owner
        self._is_listener = is_listener
        self._settled = False
        self.waiter = None if is_listener else driver.waiter()
        self._timer: Timer | None = None
        if is_listener:
            self._timer = driver.call_at(driver.time() + session.patience, self._stalled)

    async def outcome(self) -> None:
        """Wait for the end of a caller's handshake. Raises `TlsFailure`."""
        assert self.waiter is not None
        failure: TlsFailure | None = await self.waiter
        if failure is not None:
            raise failure

    def received(self, data: bytes) -> None:
        """No application data comes before the end of the handshake."""

    def writable(self, writable: bool) -> None:
        """A handshake is too short for backpressure."""

    def lost(self) -> None:
        """Fail the caller that waits."""
        self._settle(TlsFailure("it closed the connection in the TLS handshake"))

    def shaken(self) -> None:
        """The handshake is done: hand the link to the owner that comes after."""
        link = self._link
        link.protocol, link.peer = self._session.protocol, self._session.peer
        link.owner = self._make_owner(link)
        self._settle(None)

    def failed(self, failure: TlsFailure) -> None:
        """The handshake failed: tell the peer why, and close."""
        if self._is_listener:
            _logger.info("refused %s: %s", self._link.remote, failure.sentence)
        self._settle(failure)
        self._link.finish(_LINGER_SECONDS)

    def _stalled(self) -> None:
        _logger.info("refused %s: no TLS handshake within %g seconds", self._link.remote, self._session.patience)
        self._link.close()

    def _settle(self, outcome: TlsFailure | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._settled:
            self._settled = True
            if self.waiter is not None and not self.waiter.done():
                self.waiter.set_result(outcome)


def unsealed(link: Link, session: TlsSession, data: bytes, push: Callable[[], None]) -> bytes:
    """Return the plaintext in ``data``; act on what else is in it: the end of the handshake, an alert, a failure."""
    was_shaken = session.is_shaken
    try:
        plain = session.received(data)
    except TlsFailure as failure:
        link.refusal = failure.sentence
        push()
        owner = link.owner
        if isinstance(owner, Handshake):
            owner.failed(failure)
        else:
            link.close()
        return b""
    if session.has_output:
        push()
    if session.is_shaken and not was_shaken and isinstance(link.owner, Handshake):
        link.owner.shaken()
    return plain
