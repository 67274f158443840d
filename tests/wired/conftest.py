"""Programs in processes of their own, which find each other over multicast DNS on loopback."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "interop" / "python"))

from harness.wire import Wire, wire_between

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
LOOPBACK = {"MICRO_REGISTRY": "mdns://?interface=127.0.0.1"}


class Program:
    """A running service of the examples; ``output`` holds what it said so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.output: list[str] = []

    def line_with(self, text: str) -> str:
        """Return the next line with ``text``; fail where the program ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
            if text in line:
                return line
        pytest.fail(f"the program ended before it said {text!r}:\n{''.join(self.output)}")

    def stop(self) -> str:
        """Ask it to stop, see that it does so in order, and return the rest of what it said."""
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, "".join([*self.output, rest])
        return rest


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the parts of this process, and of those that it starts, speak on loopback only."""
    for name in [name for name in os.environ if name.startswith("MICRO_") or name == "PYTHONSAFEPATH"]:
        monkeypatch.delenv(name)
    for name, value in LOOPBACK.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def start(on_loopback: None) -> Iterator[Callable[..., Program]]:
    """Return a function that starts a service of the examples and returns once it is registered."""
    with ExitStack() as running:

        def started(script: str, *arguments: str) -> Program:
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-u", str(EXAMPLES / script), *arguments],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
            running.callback(process.kill)
            program = Program(process)
            program.line_with(" serves at ")
            return program

        yield started


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Wire]:
    """Return a wire between two hosts in namespaces; tests make it long, lossy, narrow, cut or half dead."""
    with ExitStack() as stack:
        yield wire_between(tmp_path, stack)
