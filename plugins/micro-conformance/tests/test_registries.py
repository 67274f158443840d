"""The core's own registries keep what every registry promises."""

import pytest

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


@pytest.mark.parametrize("ttl", [0, -1, 60])
def test_a_ttl_with_which_nothing_would_be_seen_to_run_out_is_refused(ttl: float) -> None:
    with pytest.raises(TypeError, match=f"ttl is {ttl}: it has to be more than 0, and a quarter of the patience"):
        type("TestWrong", (RegistryConformance,), {"plugin": MemoryRegistry, "ttl": ttl})
