"""For every promise of every suite there is one broken part that this promise catches, and no other.

The suites run against the broken parts of `faults/`, in one pytest process for each table: in virtual time, unless it
says ``IN_VIRTUAL_TIME = False`` because its parts speak over real sockets.
"""

import os
import runpy
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

import micro_conformance
from micro_conformance.suite import Suite, promises

FAULTS = Path(__file__).parent / "faults"
TABLES = sorted(path.stem for path in FAULTS.glob("*.py"))
KINDS = sorted({table.partition("_")[0] for table in TABLES})

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
    return "trio", {{"clock": MockClock(autojump_threshold=0)}} if getattr(faults, "IN_VIRTUAL_TIME", True) else {{}}

missing = {{name: None for name, capability in promises(faults.Suite).items() if capability in faults.Suite.missing}}
for promise in promises(faults.Suite):
    if promise not in faults.FAULTS and promise not in missing:
        globals()[f"TestNothing_{{promise}}"] = type("TestNothing", (), {{promise: lambda self: None}})
for promise, fault in {{"": faults.Suite.plugin, **faults.FAULTS}}.items():
    name = f"TestFault_{{promise}}"
    body = {{"plugin": staticmethod(fault), "anyio_backend": in_virtual_time, "__module__": __name__}}
    body |= missing
    globals()[name] = type(name, (faults.Suite,), body)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_every_promise_has_a_broken_part(kind: str) -> None:
    suite: type[Suite] = getattr(micro_conformance, f"{kind.title()}Conformance")
    tables = [runpy.run_path(str(FAULTS / f"{table}.py"))["FAULTS"] for table in TABLES if table.startswith(kind)]
    assert set(promises(suite)) == {promise for table in tables for promise in table}
    assert len({promise for table in tables for promise in table}) == sum(map(len, tables))


@pytest.mark.parametrize("table", TABLES)
def test_a_broken_part_fails_the_promise_that_it_breaks_and_no_other(table: str, tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, WITH_EVERY_FAULT.format(path=str(FAULTS / f"{table}.py")))
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
