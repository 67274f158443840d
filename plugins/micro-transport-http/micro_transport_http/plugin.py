"""The entry point ``http`` of the kind transport."""

from __future__ import annotations

from collections.abc import Mapping

from micro_core import Transport, build, hookimpl

from .transport import HttpTransport

__all__ = ["make_transport"]


@hookimpl
def make_transport(options: Mapping[str, str]) -> Transport:
    """Return the transport, its constructor's arguments taken from ``options``."""
    return build(HttpTransport, options)
