"""TLS of one connection, sans I/O: ciphertext in, plaintext out, and the other way round."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence

from micro_core.tls import HANDSHAKE_SECONDS, explain, peer_names

__all__ = ["TlsFailure", "TlsSession"]

_RECORD = 0x16
"""The first byte of a handshake record (RFC 8446 §5.1)."""

_CHUNK = 256 * 1024


class TlsFailure(OSError):
    """A handshake that failed, or a bad record; its text is about the peer."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class TlsSession:
    """One end of a TLS connection."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server: bool,
        name: str = "",
        protocols: Sequence[str] | None = None,
        patience: float = HANDSHAKE_SECONDS,
        clear_text_answer: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Begin a handshake; a listener answers what a peer says in clear text with ``clear_text_answer``."""
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
        self._clear_text_answer = clear_text_answer
        self._in_clear = b""
        self._said_bye = False
        self.is_shaken = False
        self.is_over = False
        """The peer sent close_notify: nothing more comes."""

    @property
    def protocol(self) -> str:
        """The protocol that ALPN negotiated, or nothing."""
        return self._ssl.selected_alpn_protocol() or ""

    @property
    def peer(self) -> tuple[str, ...]:
        """The names that the peer was verified by."""
        return peer_names(self._ssl) if self._server else ()

    @property
    def has_output(self) -> bool:
        """Whether handshake messages or alerts wait to be sent."""
        return bool(self._outgoing.pending or self._in_clear)

    def received(self, data: bytes) -> bytes:
        """Return the plaintext that ``data`` completes; empty data starts a caller's handshake. Raises `TlsFailure`."""
        if self._is_first and data:
            self._is_first = False
            if data[0] != _RECORD:
                if self._clear_text_answer is not None:
                    self._in_clear = self._clear_text_answer(data)
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
        """Return the bytes to send: handshake messages and alerts, then ``plain``, encrypted."""
        if self._in_clear:
            data, self._in_clear = self._in_clear, b""
            return data
        if plain and self.is_shaken and not self._said_bye:
            self._ssl.write(plain)
        return self._outgoing.read()

    def bye(self) -> bytes:
        """Return the bytes to send last, close_notify among them."""
        if self.is_shaken and not self._said_bye:
            try:
                self._ssl.unwrap()
            except ssl.SSLError:
                pass  # The peer has not said the same yet, and need not.
        self._said_bye = True
        return self.seal(b"")
