"""The verdict of .ci/run fails a run that did not test what it should have."""

import subprocess
import sys
from pathlib import Path

import pytest

VERDICT = Path(__file__).parent.parent / ".ci" / "verdict.py"
GOOD = """
SKIPPED [1] tests/test_registry.py:3: not claimed: watch
===== 12 passed, 1 skipped in 3.20s =====
4 passed, 1 warning in 61.00s (0:01:01)
nox > * tests-3.11: success
nox > * lowest: success
nox > * interop: success
"""


def verdict(tmp_path: Path, log: str, status: int = 0) -> tuple[int, str]:
    (tmp_path / "log").write_text(log, encoding="utf-8")
    command = [sys.executable, str(VERDICT), str(tmp_path / "log"), str(status), "tests-3.11", "lowest", "interop"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout


def test_good_run_closes_with_the_sum_of_all_test_runs(tmp_path: Path) -> None:
    code, output = verdict(tmp_path, GOOD)
    assert (code, output.splitlines()[-1]) == (0, "16 passed, 0 failed, 1 skipped")


@pytest.mark.parametrize(
    ("log", "status", "reason"),
    [
        (GOOD, 1, "nox exited with status 1"),
        (GOOD.replace("lowest: success", "lowest: skipped"), 0, "the session lowest did not pass"),
        (GOOD.replace("interop: success", "interop: skipped"), 0, "the session interop did not pass"),
        (GOOD.replace("not claimed: watch", "no namespaces here"), 0, "unexpected skip: no namespaces here"),
        (GOOD.replace("passed", "deselected"), 0, "no test ran"),
        (GOOD.replace("12 passed", "10 passed, 1 failed, 1 error"), 0, "14 passed, 2 failed"),
    ],
)
def test_run_that_hides_something_fails(tmp_path: Path, log: str, status: int, reason: str) -> None:
    code, output = verdict(tmp_path, log, status)
    assert (code, reason in output) == (1, True)


def test_verdict_repeats_which_tests_failed_in_which_session(tmp_path: Path) -> None:
    log = "nox > Running session lowest\nFAILED tests/test_a.py::test_b[trio] - assert 1 == 2\n" + GOOD
    _, output = verdict(tmp_path, log, 1)
    assert "WRONG: in lowest: FAILED tests/test_a.py::test_b[trio] - assert 1 == 2\n" in output
