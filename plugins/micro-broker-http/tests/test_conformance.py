"""The http broker keeps what every broker promises."""

from micro_conformance.broker import BrokerConformance


class TestHttpBroker(BrokerConformance):
    plugin = "http"
    small_outbox = {"outbox_messages": 3}
