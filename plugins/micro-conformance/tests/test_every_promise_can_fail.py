"""For every promise of every suite there is one broken part that this promise catches, and no other.

The suites run against the broken parts of `faults/`, in one pytest process for each kind and in virtual time.
"""

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

FAULTS = Path(__file__).parent / "faults"
KINDS = sorted(path.stem for path in FAULTS.glob("*.py"))

WITH_EVERY_FAULT = """
import importlib.util
import pytest
from trio.testing import MockClock
from micro_conformance import promises
spec = importlib.util.spec_from_file_location("faults", {path!r})
faults = importlib.util.module_from_spec(spec)
spec.loader.exec_module(faults)

@pytest.fixture
def in_virtual_time(self):
    return "trio", {{"clock": MockClock(autojump_threshold=0)}}

for promise in promises(faults.Suite):
    if promise not in faults.FAULTS:
        globals()[f"TestNothing_{{promise}}"] = type("TestNothing", (), {{promise: lambda self: None}})
for promise, fault in {{"": faults.Suite.plugin, **faults.FAULTS}}.items():
    name = f"TestFault_{{promise}}"
    body = {{"plugin": staticmethod(fault), "anyio_backend": in_virtual_time, "__module__": __name__}}
    globals()[name] = type(name, (faults.Suite,), body)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_part_fails_the_promise_that_it_breaks_and_no_other(kind: str, tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, WITH_EVERY_FAULT.format(path=str(FAULTS / f"{kind}.py")))
    without_fault = [name for name in outcomes if name.startswith("TestNothing_")]
    assert without_fault == []
    caught = {name.removeprefix("TestFault_"): tests for name, tests in outcomes.items()}
    assert caught.pop("") == set(), "the part without a fault keeps every promise"
    assert {fault: tests for fault, tests in caught.items() if tests != {fault}} == {}
    assert caught


def outcomes_of(folder: Path, source: str) -> dict[str, set[str]]:
    """Run a test module of classes, and return the names of the tests of each that did not pass."""
    (folder / "test_faults.py").write_text(source)
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", f"--rootdir={folder}"]
    command += ["--import-mode=importlib", f"--junitxml={report}", "-o", "junit_family=xunit1", str(folder)]
    ran = subprocess.run(command, cwd=folder, env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True)
    assert report.exists(), ran.stdout + ran.stderr
    outcomes: dict[str, set[str]] = defaultdict(set)
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["classname"].rpartition(".")[2]
        outcomes[name]
        if any(case.find(outcome) is not None for outcome in ("failure", "error", "skipped")):
            outcomes[name].add(case.attrib["name"].partition("[")[0])
    assert ran.returncode in (0, 1), ran.stdout + ran.stderr
    return outcomes
