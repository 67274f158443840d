"""What is logged about a TLS handshake that did not come about, in the same words on every event loop."""

from __future__ import annotations

import logging
import ssl
from typing import Any

from micro_core.address import join_address
from micro_core.tls import explain

__all__ = ["log_refusal"]

log = logging.getLogger("micro.broker.http")


def log_refusal(remote: Any, error: BaseException | None, seconds: float) -> None:
    """Log why a caller at the address ``remote`` was not let in: its ``error``, or none where ``seconds`` were over."""
    log.info("refused %s: %s", join_address(*(remote or ("somebody", 0))[:2]), _sentence(error, seconds))


def _sentence(error: BaseException | None, seconds: float) -> str:
    if error is None:
        return f"no TLS handshake within {seconds:g} seconds"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return explain(error)
    return "it closed the connection in the TLS handshake"
