"""The entry point ``mdns`` of the group ``micro.registry``."""

from __future__ import annotations

from collections.abc import Mapping

from micro_core import build, hookimpl

from .registry import MdnsRegistry

__all__ = ["make_registry"]


@hookimpl
def make_registry(options: Mapping[str, str]) -> MdnsRegistry:
    """Return a registry over multicast DNS."""
    return build(MdnsRegistry, options)
