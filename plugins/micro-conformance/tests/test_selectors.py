"""The core's own selectors keep what every selector promises."""

from micro_conformance import SelectorConformance


class TestRandom(SelectorConformance):
    plugin = "random"
    missing = {"load": "it knows nothing of the nodes"}


class TestRoundRobin(SelectorConformance):
    plugin = "roundrobin"
    missing = {"load": "it knows nothing of the nodes"}


class TestP2c(SelectorConformance):
    plugin = "p2c"
