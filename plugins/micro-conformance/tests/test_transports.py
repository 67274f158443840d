"""The core's own transport keeps what every transport promises."""

from micro_conformance import TransportConformance
from micro_core.builtin.memory.transport import MemoryTransport


class TestMemory(TransportConformance):
    plugin = MemoryTransport
    missing = {
        "network": "it has none",
        "silence": "nothing falls silent",
        "integrity": "nothing is altered",
    }
