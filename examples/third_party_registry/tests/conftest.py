"""Servers for the tests: real processes, on ports of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from micro_dev_ca import Authority

SECRET = "s3cret"


class Server:
    """A roster in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.address = "127.0.0.1:0"
        self._arguments = arguments
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "micro_registry_roster", self.address, *self._arguments],
            env={**os.environ, "ROSTER_SECRET": SECRET},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        with self._process.stdout as said:
            self.address = said.readline().strip()

    def stop(self) -> None:
        """Kill the server."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kill the server, and start it anew at the same address."""
        self.stop()
        self._start()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Return a server in clear text."""
    made = Server()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return an authority for certificates."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def tls_server(authority: Authority) -> Iterator[Server]:
    """Return a server that speaks TLS."""
    pair = authority.issue("roster")
    made = Server("--cert", str(pair.certificate), "--key", str(pair.key))
    yield made
    made.stop()


@pytest.fixture
def secret() -> str:
    """Return what the servers want to hear."""
    return SECRET
