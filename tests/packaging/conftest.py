"""Built wheels and fresh environments for the packaging tests."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with every wheel and sdist of this repository: the one that nox built, or one built now."""
    if built := os.environ.get("MICRO_DIST"):
        return Path(built)
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--all-packages", "--out-dir", str(folder), cwd=ROOT)
    return folder


@pytest.fixture
def fresh_environment(tmp_path: Path, dist: Path) -> Callable[..., Path]:
    """Return a function that makes a virtual environment with the given requirements and returns its python."""

    def make(*requirements: str) -> Path:
        folder = tmp_path / "environment"
        uv("venv", "--quiet", "--python", sys.executable, str(folder))
        python = folder / "bin" / "python"
        uv("pip", "install", "--quiet", "--python", str(python), "--find-links", str(dist), *requirements)
        return python

    return make


def uv(*arguments: str, cwd: Path | None = None) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "uv", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"uv {' '.join(arguments)}\n{result.stdout}{result.stderr}"
