"""The hook: how the plugin host gets an http broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from micro_broker_http.broker import HttpBroker
from micro_core import Broker, ConfigError, Registry, Tls, build, hookimpl
from micro_core.middleware import Guard

__all__ = ["make_broker"]


@hookimpl
def make_broker(
    name: str,
    address: Sequence[str],
    options: Mapping[str, str],
    registry: Registry,
    tls: Tls,
    guards: Sequence[Guard],
    credentials: Mapping[str, str],
    register_ttl: float,
    register_interval: float,
) -> Broker:
    """Return a broker that listens at the one address given, or at any port of 127.0.0.1."""
    if len(address) > 1:
        raise ConfigError(f"broker {name!r} listens at one address, not at {', '.join(address)}")
    own, others = tls.overlaid(options)
    return build(
        HttpBroker,
        others,
        registry=registry,
        tls=own,
        guards=guards,
        credentials=credentials,
        register_ttl=register_ttl,
        register_interval=register_interval,
        address=address[0] if address else "127.0.0.1:0",
    )
