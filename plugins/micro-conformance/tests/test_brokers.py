"""The core's own broker keeps what every broker promises."""

from micro_conformance import BrokerConformance
from micro_core.builtin.memory.broker import MemoryBroker


class TestMemory(BrokerConformance):
    plugin = MemoryBroker
    small_outbox = {"outbox": 4}
