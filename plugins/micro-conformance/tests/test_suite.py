"""The frame of the suites: how a part is made, what is left out and why, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from micro_conformance import RegistryConformance, SelectorConformance
from micro_core.builtin.memory.registry import MemoryRegistry

WITH_A_SERVER = """
import pytest
from micro_conformance import RegistryConformance
from micro_conformance.suite import promise
from micro_core.builtin.memory.registry import MemoryRegistry

class Part(MemoryRegistry):
    def __init__(self, address, network=None):
        super().__init__()
        self.address = address

class TestPart(RegistryConformance):
    plugin = Part
    options = {"address": "tcp:{server}"}
    missing = {"trio": "it is written for asyncio", "unreachable": "it is always there"}

    @pytest.fixture(autouse=True)
    def _server(self):
        self.server = "127.0.0.1:79"

    @promise()
    async def test_own(self):
        assert self.make().address == "tcp:127.0.0.1:79"
        with self.proxy() as proxy:
            assert self.make(server=proxy.address).address == "tcp:" + proxy.address

    @promise()
    async def test_own_restart(self):
        await self.restart_server()
"""

WITHOUT = """
from micro_conformance import RegistryConformance
from micro_conformance.suite import promise

class TestPart(RegistryConformance):
    plugin = "memory"
    missing = {"server": "it is a dictionary"}

    @promise()
    async def test_own(self):
        self.proxy()

class TestUnfilled(RegistryConformance):
    plugin = "memory://{server}"

    @promise()
    async def test_own(self):
        self.make()

class TestRaw(RegistryConformance):
    plugin = "memory"

    @promise()
    async def test_own(self):
        raise ConnectionRefusedError("from a library")
"""


def run(folder: Path, source: str) -> str:
    (folder / "test_part.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-k", "test_own", "--noconftest", "-p", "no:cacheprovider"]
    return subprocess.run([*command, str(folder)], cwd=folder, capture_output=True, text=True, check=False).stdout


def test_a_server_stands_where_plugin_and_options_say_so_and_proxies_before_it(tmp_path: Path) -> None:
    out = run(tmp_path, WITH_A_SERVER)
    assert "2 passed, 4 skipped" in out
    assert "not claimed: trio, it is written for asyncio" in out
    assert "not claimed: restart, `restart_server` is not overridden" in out


def test_what_a_suite_lacks_is_told(tmp_path: Path) -> None:
    out = run(tmp_path, WITHOUT)
    assert "not claimed: server, it is a dictionary" in out
    assert "'memory://{server}' needs the server's address: set `server`, or `self.server` in a fixture" in out
    assert "What a part's methods raise is a MicroError" in out


def test_a_capability_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="missing names lode; what can be left out: even, load, asyncio, uvloop, trio"):
        type("TestTypo", (SelectorConformance,), {"missing": {"lode": "a typo"}})


def test_a_suite_that_says_nothing_of_its_server_can_be_made() -> None:
    made = type("TestPlain", (RegistryConformance,), {"plugin": MemoryRegistry})()
    assert isinstance(made.make(), MemoryRegistry)
