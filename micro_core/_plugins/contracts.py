"""The kinds of plugins, and what each has to make."""

from __future__ import annotations

from typing import Final

from micro_core.broker import Broker
from micro_core.client import Caller
from micro_core.codec import Codec
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.server import Server
from micro_core.transport import Transport

__all__ = ["CONTRACTS", "EXTENSION"]

CONTRACTS: Final[dict[str, type]] = {
    "registry": Registry,
    "selector": Selector,
    "transport": Transport,
    "codec": Codec,
    "broker": Broker,
    "client": Caller,
    "server": Server,
}
"""What the plugins of each kind have to make."""

EXTENSION: Final = "extension"
"""The kind of plugins that make no part."""
