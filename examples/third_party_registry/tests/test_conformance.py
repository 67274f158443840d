from collections.abc import Mapping
from typing import Any, ClassVar

import anyio
import pytest

from micro_conformance import RegistryConformance


class TestRoster(RegistryConformance):
    plugin = "roster://{server}/tests"
    refused_options: ClassVar[Mapping[str, str]] = {"secret": "wrong"}

    @pytest.fixture(autouse=True)
    def _started(self, server: Any, secret: str) -> None:
        self.process = server
        self.server = server.address
        self.options = {"secret": secret, "timeout": "1s"}

    async def restart_server(self) -> None:
        await anyio.to_thread.run_sync(self.process.restart)


class TestRosterUnderTls(RegistryConformance):
    plugin = "roster://{server}/tests"
    refused_options: ClassVar[Mapping[str, str]] = {"secret": "wrong"}

    @pytest.fixture(autouse=True)
    def _started(self, tls_server: Any, authority: Any, secret: str) -> None:
        self.process = tls_server
        self.server = tls_server.address
        self.options = {"secret": secret, "timeout": "1s", "tls_ca": str(authority.pair.certificate)}

    async def restart_server(self) -> None:
        await anyio.to_thread.run_sync(self.process.restart)
