"""What the hooks take that comes from settings, or that a caller may leave out: one table for all who call them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from micro_core.client import ClientDefaults
from micro_core.tls import Tls

__all__ = ["ARGUMENTS", "Argument", "defaults_of"]


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """An argument of ``make_…``: its default, and the settings that it comes from."""

    default: Any
    settings: tuple[str, ...] = ()


_TLS: Final = Argument(
    default=Tls(),
    settings=(
        "tls_cert", "tls_key", "tls_ca", "tls_client_ca", "tls_pin", "tls_server_name", "tls_insecure_skip_verify",
    ),
)  # fmt: skip

ARGUMENTS: Final[Mapping[str, Mapping[str, Argument]]] = {
    "registry": {"tls": _TLS},
    "transport": {
        "pool_size": Argument(default=100, settings=("client_pool_size",)),
        "pool_ttl": Argument(default=60.0, settings=("client_pool_ttl",)),
        "tls": _TLS,
    },
    "broker": {
        "tls": _TLS,
        "guards": Argument(default=()),
        "credentials": Argument(default=MappingProxyType({})),
        "register_ttl": Argument(default=60.0),
        "register_interval": Argument(default=30.0),
    },
    "client": {"middleware": Argument(default=()), "defaults": Argument(default=ClientDefaults())},
    "server": {"middleware": Argument(default=()), "guards": Argument(default=())},
}
"""By kind and name of the argument. Those without a default are other parts, and what the configuration string says."""


def defaults_of(kind: str) -> dict[str, Any]:
    """Return the arguments of a kind's hook that have a default."""
    return {name: argument.default for name, argument in ARGUMENTS.get(kind, {}).items()}
