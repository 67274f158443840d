from micro_conformance import SelectorConformance


class TestWeighted(SelectorConformance):
    plugin = "weighted"
    missing = {"load": "a node's share is what its weight says, however it does"}
