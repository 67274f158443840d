"""The peers that take part, and how each is started."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from harness.network import Network, Program

HERE = Path(__file__).parent.parent
CONTENT_TYPES = {
    "json": "application/json",
    "protobuf": "application/protobuf",
    "json-rpc": "application/json-rpc",
    "proto-rpc": "application/proto-rpc",
}
Settings: TypeAlias = Mapping[str, str]
NONE: Settings = MappingProxyType({})
PROTOBUF = ("protobuf", "proto-rpc")
"""What a Python peer needs protobuf messages for."""


@dataclass(frozen=True, slots=True)
class Peers:
    """Starts peers by name: ``python`` or one of Go Micro's lines, whose programs lie in ``programs``."""

    programs: Path
    core: int | None = None
    """The one core that peers are to run on; None: all."""

    def pinned(self, core: int) -> Peers:
        """Return what starts peers that run on one core."""
        return replace(self, core=core)

    def server(
        self, peer: str, network: Network, *flags: str, content: str = "json", settings: Settings = NONE
    ) -> Program:
        """Start a server in ``network``, with variables of its own; returns once it is registered."""
        server = self.starting(peer, network, *flags, content=content, settings=settings)
        server.line_with("ready")
        return server

    def starting(
        self, peer: str, network: Network, *flags: str, content: str = "json", settings: Settings = NONE
    ) -> Program:
        """Start a server, which says ``ready`` and its address once it is registered."""
        environment = {**self._environment(content), **settings}
        return network.start(*self._command(peer), "--role", "server", *flags, **environment)

    def client(
        self, peer: str, network: Network, cases: str, *flags: str, content: str = "json", settings: Settings = NONE
    ) -> Program:
        """Start a client that runs ``cases``."""
        chosen = ("--case", cases, "--content-type", CONTENT_TYPES[content])
        environment = {**self._environment(content), **settings}
        return network.start(*self._command(peer), "--role", "client", *chosen, *flags, **environment)

    def _command(self, peer: str) -> tuple[str, ...]:
        pinned = () if self.core is None else ("taskset", "-c", str(self.core))
        return pinned + ((sys.executable, "-P", "-m", "pypeer") if peer == "python" else (str(self.programs / peer),))

    def _environment(self, content: str) -> dict[str, str]:
        return {"PYTHONPATH": str(HERE), "INTEROP_PAYLOAD": "protobuf" if content in PROTOBUF else "plain"}
