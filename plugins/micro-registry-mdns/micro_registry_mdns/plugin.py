"""The entry point ``mdns`` of the group ``micro.registry``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from micro_core import ConfigError, build, hookimpl

from .registry import MdnsRegistry

__all__ = ["make_registry"]


@hookimpl
def make_registry(address: Sequence[str], options: Mapping[str, str]) -> MdnsRegistry:
    """Return a registry over multicast DNS."""
    if address:
        raise ConfigError(
            f"registry mdns takes no address, it was given {', '.join(address)}; "
            "to speak on one interface only: mdns://?interface=<its IPv4 address>"
        )
    return build(MdnsRegistry, options)
