"""A TLS context that follows its files: each connection is made with what they hold then."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import ssl
import threading
from collections.abc import Sequence
from typing import Any, Final, Self

from micro_core.errors import ConfigError

__all__ = ["LiveContext", "PinMismatch", "pin_of"]

log = logging.getLogger("micro.tls")

_PIN: Final = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


class PinMismatch(ssl.SSLError):
    """The certificate that a peer presented is not pinned."""


def pin_of(text: str) -> bytes:
    """Return the digest that a pin says: 64 hexadecimal digits, colons between them or not. Raises `ConfigError`."""
    found = _PIN.fullmatch(text.strip().replace(":", "").replace("sha256", "sha256:", 1))
    if found is None:
        raise ConfigError(
            f"tls_pin {text[:100]!r} is no SHA-256; write the 64 hexadecimal digits that "
            "`openssl x509 -noout -fingerprint -sha256` prints"
        )
    return bytes.fromhex(found[1])


class _PinnedPeer(ssl.SSLObject):
    """Looks at the peer's certificate before anything but the handshake was said."""

    def do_handshake(self) -> None:
        super().do_handshake()
        context = self.context
        presented = hashlib.sha256(self.getpeercert(binary_form=True) or b"").digest()
        if isinstance(context, _Pinning) and not any(hmac.compare_digest(presented, pin) for pin in context.pins):
            raise PinMismatch(f"its certificate's sha256 is {presented.hex()}, which is not pinned")


class _Pinning(ssl.SSLContext):
    """A context whose connections check pins."""

    pins: tuple[bytes, ...] = ()
    sslobject_class = _PinnedPeer


def _pinning(pins: tuple[bytes, ...]) -> ssl.SSLContext:
    context = _Pinning(ssl.PROTOCOL_TLS_CLIENT)
    context.pins = pins
    return context


class LiveContext(ssl.SSLContext):
    """Stands for a context: what is made by it is made by a new one when the files have changed.

    Files that cannot be read later are logged, and the connection is made with what they held before.
    """

    def __new__(cls, **_: object) -> Self:
        """Make the context that event loops and libraries see; nothing is negotiated by itself."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(
        self,
        *,
        cert: str,
        key: str,
        authorities: str,
        server: bool,
        protocols: Sequence[str],
        pins: tuple[bytes, ...] = (),
        name: str = "",
        verify: bool = True,
    ) -> None:
        self._cert = cert
        self._key = key
        self._authorities = authorities
        self._server = server
        self._protocols = list(protocols)
        self._pins = pins
        self._name = name
        self._verify = verify
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._inner = self._load()

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """Offer these from the next connection on."""
        self._protocols = list(alpn_protocols)

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Return a connection, made with what the files hold now."""
        inner = self._current()
        inner.set_alpn_protocols(self._protocols)
        return inner.wrap_bio(
            incoming, outgoing, server_side, None if server_side else self._name or server_hostname, session
        )

    def _current(self) -> ssl.SSLContext:
        with self._lock:
            stamp = self._look()
            if stamp != self._stamp:
                try:
                    self._inner = self._load()
                    log.info("read again, for they changed: %s", ", ".join(self._files()))
                except ConfigError as error:
                    log.error("certificates have changed, and what was there before stays in use: %s", error)
                self._stamp = stamp
            return self._inner

    def _files(self) -> list[str]:
        return [path for path in (self._cert, self._key, self._authorities) if path]

    def _look(self) -> list[tuple[int, int, int]]:
        found = []
        for path in self._files():
            try:
                status = os.stat(path)
                found.append((status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                found.append((0, 0, 0))
        return found

    def _load(self) -> ssl.SSLContext:
        if self._pins:
            context: ssl.SSLContext = _pinning(self._pins)
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if self._server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._cert:
            _load_chain(context, self._cert, self._key)
        if self._authorities:
            _load_authorities(context, self._authorities, "tls_client_ca" if self._server else "tls_ca")
        if self._server:
            context.verify_mode = ssl.CERT_REQUIRED if self._authorities else ssl.CERT_NONE
        elif not self._verify or (self._pins and not self._authorities):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif not self._authorities:
            context.load_default_certs()
        return context

    def __repr__(self) -> str:
        return f"<LiveContext {'server' if self._server else 'client'}: {', '.join(self._files()) or 'no files'}>"


def _load_chain(context: ssl.SSLContext, cert: str, key: str) -> None:
    def refuse() -> str:
        raise ConfigError(
            f"tls_key {key or cert!r} is encrypted; store it without a passphrase, readable for its owner"
        )

    try:
        context.load_cert_chain(cert, key or None, password=refuse)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(_sentence(error, cert, key)) from error


def _sentence(error: OSError, cert: str, key: str) -> str:
    if isinstance(error, ssl.SSLError):
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"tls_key {key or cert!r} is not the key of the certificate in tls_cert {cert!r}"
        return f"tls_cert {cert!r} and tls_key {key or cert!r} hold no certificate with its key in PEM"
    for setting, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            with open(path or cert, "rb"):
                pass
        except OSError as reason:
            return f"{setting} {path!r} cannot be read: {reason.strerror}"
    return f"tls_cert {cert!r} cannot be used: {error}"


def _load_authorities(context: ssl.SSLContext, path: str, setting: str) -> None:
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise ConfigError(f"{setting} {path!r} holds no certificate in PEM") from error
    except OSError as error:
        raise ConfigError(f"{setting} {path!r} cannot be read: {error.strerror}") from error
