"""The core's own registries keep what every registry promises."""

from micro_conformance import RegistryConformance
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.registry_static import StaticRegistry


class TestMemory(RegistryConformance):
    plugin = MemoryRegistry
    missing = {"unreachable": "it is always there"}


class TestStatic(RegistryConformance):
    plugin = StaticRegistry
    options = {"records": ()}
    missing = {
        "register": "nodes are written down",
        "ttl": "nodes are written down",
        "watch": "nothing changes",
        "unreachable": "it is always there",
    }
