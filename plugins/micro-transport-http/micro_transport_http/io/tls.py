"""TLS of one connection, sans I/O: bytes of the peer in, plain bytes out, and the other way round."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence

from micro_core.tls import HANDSHAKE_SECONDS, explain, peer_names
from micro_transport_http.http1.refusal import Refusal

from .link import Driver, Link, MakeOwner, Owner, Timer

__all__ = ["Handshake", "TlsFailure", "TlsSession", "unsealed"]

_logger = logging.getLogger("micro.transport.http")

_RECORD = 0x16
"""What the first byte of a handshake is (RFC 8446 §5.1)."""

_CHUNK = 256 * 1024
_LINGER_SECONDS = 2.0
_CLEAR_TEXT = Refusal(400, "this port speaks TLS, and clear text came: call it with TLS (docs/tls.md)")


class TlsFailure(OSError):
    """A handshake that did not come about, or a record that is wrong; its text is about the peer."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class TlsSession:
    """One end of a connection."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server: bool,
        name: str = "",
        protocols: Sequence[str] | None = None,
        patience: float = HANDSHAKE_SECONDS,
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server = server
        self.patience = patience
        """Seconds that a listener gives a handshake; a caller waits as long as for its connect."""
        if protocols is not None:
            context.set_alpn_protocols(list(protocols))
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=None if server else name
        )
        self._is_first = server
        self._in_clear = b""
        self._said_bye = False
        self.is_shaken = False
        self.is_over = False
        """The peer said that nothing more comes."""

    @property
    def protocol(self) -> str:
        """What was agreed on by ALPN, or nothing."""
        return self._ssl.selected_alpn_protocol() or ""

    @property
    def peer(self) -> tuple[str, ...]:
        """The names that the peer was verified by."""
        return peer_names(self._ssl) if self._server else ()

    @property
    def has_output(self) -> bool:
        """Whether there is something to send that is not the application's."""
        return bool(self._outgoing.pending or self._in_clear)

    def received(self, data: bytes) -> bytes:
        """Return what ``data`` completes; empty data begins the handshake of a caller. Raises `TlsFailure`."""
        if self._is_first and data:
            self._is_first = False
            if data[0] != _RECORD:
                self._in_clear = _CLEAR_TEXT.encode()
                raise TlsFailure("it spoke clear text to a port that speaks TLS")
        self._incoming.write(data)
        try:
            if not self.is_shaken:
                self._ssl.do_handshake()
                self.is_shaken = True
            return self._read()
        except ssl.SSLWantReadError:
            return b""
        except ssl.SSLError as error:
            raise TlsFailure(explain(error)) from error

    def _read(self) -> bytes:
        parts: list[bytes] = []
        try:
            while self._incoming.pending or self._ssl.pending():
                part = self._ssl.read(_CHUNK)
                if not part:
                    self.is_over = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.is_over = True
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def seal(self, plain: bytes) -> bytes:
        """Return what to send: ``plain``, after what the handshake and alerts have to say."""
        if self._in_clear:
            data, self._in_clear = self._in_clear, b""
            return data
        if plain and self.is_shaken and not self._said_bye:
            self._ssl.write(plain)
        return self._outgoing.read()

    def bye(self) -> bytes:
        """Return what says that nothing more comes."""
        if self.is_shaken and not self._said_bye:
            try:
                self._ssl.unwrap()
            except ssl.SSLError:
                pass  # The peer has not said the same yet, and need not.
        self._said_bye = True
        return self.seal(b"")


class Handshake(Owner):
    """Owns a link until its handshake is done, and makes the owner that comes after."""

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
        """Nothing of the application comes before the end of a handshake."""

    def writable(self, writable: bool) -> None:
        """A handshake is short."""

    def lost(self) -> None:
        """Tell who waits."""
        self._settle(TlsFailure("it closed the connection in the TLS handshake"))

    def shaken(self) -> None:
        """Hand the link to its owner."""
        link = self._link
        link.protocol, link.peer = self._session.protocol, self._session.peer
        link.owner = self._make_owner(link)
        self._settle(None)

    def failed(self, failure: TlsFailure) -> None:
        """Let the peer hear why, and end it."""
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
    """Return the plain bytes in ``data``, and see to what else it brings: the handshake's end, an alert, an answer."""
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
