"""What went wrong in a handshake, as a sentence that says what to do."""

from __future__ import annotations

from typing import Final

__all__ = ["explain"]

_VERIFYING: Final = {
    9: "its certificate is not valid yet: compare the clocks",
    10: "its certificate has expired: it needs a new one",
    18: "its certificate is self-signed: name it in tls_ca, or pin it with tls_pin",
    19: "its certificate comes from an authority that is not trusted here: name that authority in tls_ca",
    20: "its certificate comes from an authority that is not trusted here: name that authority in tls_ca",
    21: "its certificate comes from an authority that is not trusted here: name that authority in tls_ca",
    24: "its certificate was issued by one that is no authority",
    26: "its certificate is not for this use",
    62: "its certificate is for other names: it needs this one, or tls_server_name has to say which to expect",
    64: "its certificate is for other addresses: it needs this one, or tls_server_name has to say which to expect",
}
"""By OpenSSL's number (X509_V_ERR_…)."""

_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it presented no certificate, which tls_client_ca asks for",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it asks for a certificate of ours: set tls_cert and tls_key",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refused the handshake: it may ask for a certificate (tls_cert, tls_key)",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not trust the authority of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired: it needs a new one",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "TLSV1_ALERT_DECRYPT_ERROR": "it does not accept our certificate",
    "WRONG_VERSION_NUMBER": "it speaks clear text, where TLS is expected",
    "HTTP_REQUEST": "it speaks clear text, where TLS is expected",
    "PACKET_LENGTH_TOO_LONG": "it speaks clear text, where TLS is expected",
    "RECORD_LAYER_FAILURE": "it speaks clear text, where TLS is expected",
    "UNKNOWN_PROTOCOL": "it speaks no TLS that is taken here; 1.2 is the least",
    "UNSUPPORTED_PROTOCOL": "it speaks only a TLS older than 1.2",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it takes no TLS of the versions that are spoken here; 1.2 is the least",
    "NO_SHARED_CIPHER": "it has no cipher in common with us",
}


def explain(error: Exception) -> str:
    """Return what a failed handshake means: a sentence about the peer, ``it``, without a full stop."""
    import ssl

    from micro_core._wire.tls_context import PinMismatch

    if isinstance(error, PinMismatch):
        return str(error.args[-1])
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFYING.get(error.verify_code, f"its certificate is refused: {error.verify_message}")
    if isinstance(error, ssl.SSLError):
        reason = error.reason or str(error)
        return _REASONS.get(reason, f"the TLS handshake failed: {reason.lower().replace('_', ' ')}")
    return f"the TLS handshake failed: {error}"
