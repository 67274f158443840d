"""How network parts speak TLS: one set of settings for all of them, and the contexts that come of it (docs/tls.md)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from micro_core._settings.near_miss import did_you_mean
from micro_core._settings.values import convert, valid
from micro_core._wire.tls_errors import explain
from micro_core.address import is_loopback
from micro_core.errors import ConfigError

if TYPE_CHECKING:  # imported where TLS is spoken
    import ssl
else:

    class _Ssl:
        """Stands for the module where annotations are read: help(), inspect.signature(), typing.get_type_hints()."""

        def __getattr__(self, name: str) -> object:
            return getattr(import_module("ssl"), name)

    ssl = _Ssl()

__all__ = ["HANDSHAKE_SECONDS", "Tls", "explain", "peer_names"]

log = logging.getLogger("micro.tls")

HANDSHAKE_SECONDS: Final = 5.0
"""How long a handshake may take before the connection is closed."""

_PREFIX: Final = "tls_"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """What a part presents and whom it trusts. Without anything set it speaks clear text.

    Files are PEM, and read again when they change. Who has any of this speaks TLS to whomever it calls; who has a
    certificate listens with TLS too. A context of your own stands in for the files of its side; give it to one part,
    for parts set its ALPN protocols.
    """

    cert: str = ""
    """The file with our certificate and those between it and the authority."""
    key: str = ""
    """The file with its key; empty: it is in ``cert``."""
    ca: str = ""
    """The file with the authorities that those we call are verified by; empty: the machine's own."""
    client_ca: str = ""
    """The file with the authorities that our callers have to have a certificate of (mutual TLS)."""
    pin: tuple[str, ...] = ()
    """SHA-256 of the certificates that those we call may present, in hex; without ``ca`` nothing else is asked."""
    server_name: str = ""
    """The name that the certificates of those we call have to be for, in place of the address."""
    insecure_skip_verify: bool = False
    """True: whoever answers is taken for the right one."""
    require: bool = False
    """True: clear text is spoken within this machine alone."""
    server_context: ssl.SSLContext | None = None
    client_context: ssl.SSLContext | None = None

    @property
    def listens(self) -> bool:
        """Whether listeners speak TLS: not without a certificate, which `for_server` says where the rest is there."""
        return bool(self.cert or self.key or self.client_ca or self.server_context)

    @property
    def calls(self) -> bool:
        """Whether whoever is called has to speak TLS."""
        trusts = self.ca or self.pin or self.server_name or self.insecure_skip_verify or self.client_context
        return bool(trusts or self.listens)

    def overlaid(self, options: Mapping[str, str]) -> tuple[Tls, dict[str, str]]:
        """Return these settings with the options ``tls_…`` of a configuration string over them, and its other options.

        Raises `ConfigError` for an option that is unknown or of a wrong value.
        """
        ours = {name: text for name, text in options.items() if name.startswith(_PREFIX)}
        values: dict[str, object] = {}
        for name, text in ours.items():
            if name not in _OPTIONS:
                known = ", ".join(sorted(_OPTIONS))
                raise ConfigError(
                    f"there is no option {name[:100]!r}{did_you_mean(name, _OPTIONS)}; there are: {known}"
                )
            try:
                values[name.removeprefix(_PREFIX)] = convert(text, _OPTIONS[name])
            except ValueError as error:
                raise ConfigError(f"option {name} is not valid: write {valid(_OPTIONS[name])}") from error
        return replace(self, **values), {name: text for name, text in options.items() if name not in ours}

    def for_server(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """Return the context for a listener that offers ``protocols`` by ALPN, the preferred first.

        Raises `ConfigError`, one sentence, where a file cannot be used.
        """
        if self.server_context is not None:
            self.server_context.set_alpn_protocols(list(protocols))
            return self.server_context
        if self.key and not self.cert:
            raise ConfigError("tls_key is set and tls_cert is not: a listener needs both")
        if self.client_ca and not self.cert:
            raise ConfigError("tls_client_ca is set and tls_cert is not: who asks for certificates needs its own")
        from micro_core._wire.tls_context import LiveContext

        return LiveContext(cert=self.cert, key=self.key, authorities=self.client_ca, server=True, protocols=protocols)

    def for_client(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """Return the context for calls that offer ``protocols`` by ALPN; ``()`` is no ALPN.

        Raises `ConfigError` as `for_server` does.
        """
        if self.client_context is not None:
            if self.pin:
                raise ConfigError("tls_pin and a client context of your own exclude each other")
            self.client_context.set_alpn_protocols(list(protocols))
            return self.client_context
        if self.key and not self.cert:
            raise ConfigError("tls_key is set and tls_cert is not: who presents a certificate needs both")
        if self.insecure_skip_verify and (self.ca or self.pin):
            raise ConfigError("tls_insecure_skip_verify and tls_ca or tls_pin exclude each other: what is trusted?")
        if self.insecure_skip_verify:
            log.warning("tls_insecure_skip_verify: whoever answers is taken for the right one, and can read everything")
        from micro_core._wire.tls_context import LiveContext, pin_of

        return LiveContext(
            cert=self.cert,
            key=self.key,
            authorities=self.ca,
            server=False,
            protocols=protocols,
            pins=tuple(pin_of(pin) for pin in self.pin),
            name=self.server_name,
            verify=not self.insecure_skip_verify,
        )

    def check_clear_text(self, address: str, what: str, *, listens: bool = False) -> None:
        """Raise `ConfigError` where ``what`` would speak clear text beyond this machine, and must not.

        It says which settings are needed: those of whoever calls or, with ``listens``, of a listener.
        """
        if self.require and not is_loopback(address):
            needed = "tls_cert and tls_key" if listens else "tls_ca, the authority of whoever is called"
            raise ConfigError(
                f"{what} {address} would speak clear text, which require_tls forbids outside this machine; "
                f"set {needed} (docs/tls.md)"
            )

    def __repr__(self) -> str:
        given = [name for name in self.__struct_fields__ if getattr(self, name)]
        return f"<Tls {', '.join(given) or 'off'}>"


_OPTIONS: Final[Mapping[str, object]] = {
    "tls_cert": str,
    "tls_key": str,
    "tls_ca": str,
    "tls_client_ca": str,
    "tls_pin": tuple[str, ...],
    "tls_server_name": str,
    "tls_insecure_skip_verify": bool,
}


def peer_names(peer: ssl.SSLObject) -> tuple[str, ...]:
    """Return the names in the certificate that a peer was verified by; none where it was asked for none.

    Its alternative names in their order; where it has none, its common name.
    """
    certificate: Mapping[str, Any] = peer.getpeercert() or {}
    names = tuple(str(value) for _, value in certificate.get("subjectAltName", ()))
    if names:
        return names
    subject = (pair for part in certificate.get("subject", ()) for pair in part)
    return tuple(str(value) for key, value in subject if key == "commonName")
