"""The entry point ``http`` of the kind transport."""

from __future__ import annotations

from collections.abc import Mapping

from micro_core import Tls, Transport, build, hookimpl

from .transport import HttpTransport

__all__ = ["make_transport"]


@hookimpl
def make_transport(options: Mapping[str, str], pool_size: int, pool_ttl: float, tls: Tls) -> Transport:
    """Return the transport, its constructor's arguments taken from ``options``, which go over the settings."""
    own, others = tls.overlaid(options)
    return build(HttpTransport, {"pool_size": str(pool_size), "pool_ttl": str(pool_ttl), **others}, tls=own)
