"""What every transport owes, with many calls on one connection and with one, on both drivers."""

from __future__ import annotations

from micro_conformance import TransportConformance
from micro_transport_http import HttpTransport


class TestMultiplexed(TransportConformance):
    plugin = HttpTransport


class TestOneCallAtATime(TransportConformance):
    plugin = HttpTransport
    options = {"multiplex": "off"}
    missing = {"multiplexing": "switched off"}


class TestPortable(TransportConformance):
    plugin = HttpTransport
    options = {"native": False}
