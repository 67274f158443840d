"""One large stream over HTTP/2 between two processes: whoever reads slowly makes the other wait, and memory stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent.parent.parent / "benchmarks" / "large_stream.py"
MOST = 8.0
"""MiB by which either side may grow."""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system does not say how memory grows")
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_128_mib_to_a_reader_that_pauses_cost_neither_side_8_mib(
    backend: str, way: str, authority: Any, on_loopback: None
) -> None:
    cert, key = authority.issue("large")
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "128", way, "--pause", "0.7", "--backend", backend],
        env={**os.environ, "MICRO_TLS_CERT": cert, "MICRO_TLS_KEY": key, "MICRO_TLS_CA": authority.file},
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["seconds"] > 2.8, "the reader has not paused"
    assert (said["client"] < MOST, said["server"] < MOST) == (True, True), said
