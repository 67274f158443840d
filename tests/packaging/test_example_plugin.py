"""The examples of a third party's plugins, installed beside our wheels: proven by their own tests, and used by name."""

import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = ROOT / "examples"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
OURS = [f"micro-core=={VERSION}", f"micro-conformance=={VERSION}"]
CA = f"micro-dev-ca=={VERSION}"
USE = """
import anyio
from micro_core import Service
from micro_core.testing import world

async def main():
    async with world() as here, here.service("greeter", selector="weighted://?default=2") as service:
        print(await service.client.call("greeter", "Debug.Health", {}))

anyio.run(main)
"""
USE_OF_A_SERVER = """
import subprocess, sys
import anyio
from micro_core import Service
from micro_core.testing import world

async def main(registry):
    async with world() as here, here.service("greeter", registry=registry), here.client(registry=registry) as client:
        print(await client.call("greeter", "Debug.Health", {}))

command = [sys.executable, "-m", "micro_registry_roster", "127.0.0.1:0"]
server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
try:
    anyio.run(main, f"roster://{server.stdout.readline().strip()}/production")
finally:
    server.kill()
"""


@pytest.mark.parametrize(
    ("example", "more"), [("third_party_plugin", []), ("third_party_registry", [CA])], ids=["selector", "registry"]
)
def test_an_example_plugin_keeps_the_promises_of_its_kind(
    example: str, more: list[str], fresh_environment: Callable[..., Path], tmp_path: Path
) -> None:
    python = fresh_environment(str(EXAMPLES / example), *OURS, *more, "pytest", "trio", "uvloop")
    shutil.copytree(EXAMPLES / example / "tests", tmp_path / "tests")
    done = subprocess.run([python, "-m", "pytest", "tests"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/test_conformance.py ." in done.stdout


@pytest.mark.parametrize(
    ("example", "program"),
    [("third_party_plugin", USE), ("third_party_registry", USE_OF_A_SERVER)],
    ids=["selector", "registry"],
)
def test_an_example_plugin_is_used_by_its_name(
    example: str, program: str, fresh_environment: Callable[..., Path], tmp_path: Path
) -> None:
    python = fresh_environment(str(EXAMPLES / example), *OURS)
    done = subprocess.run([python, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout
