"""The code blocks of a page, and a fresh environment with the built wheels to run them in."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>python|sh)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One code block and where it stands."""

    language: str
    text: str
    line: int


@pytest.fixture
def blocks_of() -> Callable[[Path], list[Block]]:
    """Return a function from a page to its blocks marked python or sh."""

    def read(page: Path) -> list[Block]:
        text = page.read_text(encoding="utf-8")
        return [
            Block(
                found["language"],
                _joined(re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE), found["language"]),
                text.count("\n", 0, found.start()) + 1,
            )
            for found in BLOCK.finditer(text)
        ]

    return read


def _joined(text: str, language: str) -> str:
    """Return the text of a block; a command that goes on in the next line is one line."""
    return re.sub(r" *\\\n *", " ", text) if language == "sh" else text


@pytest.fixture
def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of wheels that nox built, or one built now."""
    if built := os.environ.get("MICRO_DIST"):
        return Path(built)
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--all-packages", "--out-dir", str(folder), cwd=ROOT)
    return folder


@pytest.fixture
def install(tmp_path: Path, dist: Path) -> Callable[[list[str]], Path]:
    """Return a function that does `pip install ARGUMENTS` in a new environment and returns its folder of programs."""

    def make(arguments: list[str]) -> Path:
        folder = tmp_path / "environment"
        uv("venv", "--quiet", "--python", sys.executable, str(folder))
        given = [str(dist) if argument == "dist" else argument for argument in arguments]
        uv("pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *given)
        return folder / "bin"

    return make


def uv(*arguments: str, cwd: Path | None = None) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "uv", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"uv {' '.join(arguments)}\n{result.stdout}{result.stderr}"
