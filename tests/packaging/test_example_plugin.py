"""The example of a third party's plugin, installed beside our wheels: proven by its own tests, and used by its name."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "third_party_plugin"
OURS = ["micro-core==0.2.0", "micro-conformance==0.2.0"]
USE = """
import anyio
from micro_core import Service
from micro_core.testing import world

async def main():
    async with world() as here, here.service("greeter", selector="weighted://?default=2") as service:
        print(await service.client.call("greeter", "Debug.Health", {}))

anyio.run(main)
"""


def test_the_example_plugin_keeps_the_promises_of_its_kind(
    fresh_environment: Callable[..., Path], tmp_path: Path
) -> None:
    python = fresh_environment(str(EXAMPLE), *OURS, "pytest", "trio", "uvloop")
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    done = subprocess.run([python, "-m", "pytest", "tests"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tests/test_conformance.py ." in done.stdout


def test_the_example_plugin_is_used_by_its_name(fresh_environment: Callable[..., Path], tmp_path: Path) -> None:
    python = fresh_environment(str(EXAMPLE), *OURS)
    done = subprocess.run([python, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ok" in done.stdout
