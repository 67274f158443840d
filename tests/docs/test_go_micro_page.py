"""The matrix in docs/go-micro.md is the one that the interop tests hold to."""

import os
import subprocess
import sys
from pathlib import Path

INTEROP = Path(__file__).parent.parent / "interop" / "python"


def test_the_page_has_the_matrix_of_now() -> None:
    done = subprocess.run(
        [sys.executable, str(INTEROP / "harness" / "page.py"), "--check"],
        env={**os.environ, "PYTHONPATH": str(INTEROP)},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
