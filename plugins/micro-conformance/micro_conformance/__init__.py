"""The contract of every kind of micro plugin as pytest classes."""

import pytest

MODULES = (
    "suite", "registry", "registry_sharing", "registry_watching", "registry_network", "selector",
    "transport", "transport_ends", "transport_stream", "transport_network", "codec",
    "broker", "broker_capabilities", "broker_delivery", "broker_ends", "broker_stored", "rpc_work", "client", "server",
)  # fmt: skip
pytest.register_assert_rewrite(*(f"micro_conformance.{module}" for module in MODULES))

from micro_conformance.broker import BrokerConformance  # noqa: E402
from micro_conformance.client import ClientConformance  # noqa: E402
from micro_conformance.codec import CodecConformance  # noqa: E402
from micro_conformance.registry import RegistryConformance  # noqa: E402
from micro_conformance.selector import SelectorConformance  # noqa: E402
from micro_conformance.server import ServerConformance  # noqa: E402
from micro_conformance.suite import promises  # noqa: E402
from micro_conformance.transport import TransportConformance  # noqa: E402

__all__ = [
    "BrokerConformance",
    "ClientConformance",
    "CodecConformance",
    "RegistryConformance",
    "SelectorConformance",
    "ServerConformance",
    "TransportConformance",
    "promises",
]
