"""The core's own client and server keep what every client and server promises."""

from micro_conformance import ClientConformance, ServerConformance


class TestRpcClient(ClientConformance):
    plugin = "rpc"


class TestRpcServer(ServerConformance):
    plugin = "rpc"
