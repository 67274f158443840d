"""The entry point ``http`` of the kind transport."""

from __future__ import annotations

from collections.abc import Mapping

from micro_core import Tls, Transport, build, hookimpl

from .transport import HttpTransport

__all__ = ["make_transport"]


@hookimpl
def make_transport(options: Mapping[str, str], tls: Tls) -> Transport:
    """Return the transport, its constructor's arguments taken from ``options``; those of TLS go over ``tls``."""
    own, others = tls.overlaid(options)
    return build(HttpTransport, others, tls=own)
