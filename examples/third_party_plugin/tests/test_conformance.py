from micro_conformance import SelectorConformance


class TestWeighted(SelectorConformance):
    plugin = "weighted"
