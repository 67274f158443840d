"""The stage of the interop tests: Go programs built in this session, networks made for it, peers that run there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "python"))

from harness.build import LINES, STRANGERS, GoMissing, build
from harness.network import Network
from harness.peers import Peers


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with every Go program: where MICRO_INTEROP_PROGRAMS says they are, or built now."""
    if built := os.environ.get("MICRO_INTEROP_PROGRAMS"):
        return Path(built)
    folder = tmp_path_factory.mktemp("programs")
    for name in (*LINES, *STRANGERS):
        try:
            build(folder, name)
        except GoMissing as error:
            pytest.fail(str(error), pytrace=False)
    return folder


@pytest.fixture(scope="session")
def peers(programs: Path) -> Peers:
    return Peers(programs)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


@pytest.fixture
def network(tmp_path: Path, stack: ExitStack) -> Network:
    """Return a machine with nothing but loopback."""
    return Network(tmp_path, stack)
