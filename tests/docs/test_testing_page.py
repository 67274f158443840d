"""The test modules of docs/testing.md pass, each in a process of its own, with warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing.md"
NAMES = ["test_shop.py", "test_greeter.py", "test_mailer.py", "test_outage.py", "test_time.py", "test_web.py"]
SETTINGS = """
[pytest]
filterwarnings =
    error
    ignore:Using .httpx. with
asyncio_default_fixture_loop_scope = function
"""
# What is ignored: new releases of the test client prefer another library's name.


def test_every_module_of_the_page_is_tried(blocks_of: Callable[[Path], list[Any]]) -> None:
    assert [name_of(block.text) for block in blocks_of(PAGE)] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_the_page_passes(name: str, blocks_of: Callable[[Path], list[Any]], tmp_path: Path) -> None:
    (block,) = [block for block in blocks_of(PAGE) if name_of(block.text) == name]
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    (tmp_path / name).write_text(block.text)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout


def name_of(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")
