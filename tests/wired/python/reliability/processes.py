"""Services in processes of their own, for the rows to kill, freeze and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["Greeter", "closed_port", "greeters"]

PROGRAM = Path(__file__).parent / "greeter.py"


class Greeter:
    """A running greeter; ``name`` is what it answers."""

    def __init__(self, name: str, host: str, variables: Mapping[str, str]) -> None:
        self.name = name
        settings = {key: value for key, value in os.environ.items() if not key.startswith("MICRO_")} | dict(variables)
        command = [sys.executable, "-u", str(PROGRAM), name, host]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=settings)

    def serving(self) -> Greeter:
        """Return it once it serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("at "):
            raise RuntimeError(f"the greeter {self.name} did not start: {line!r}")
        self.address = line.split()[1]
        return self

    def freeze(self) -> None:
        """Have it stand still, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """Ask it to stop in order."""
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def greeters(count: int, *, host: str = "127.0.0.1", **variables: str) -> Iterator[list[Greeter]]:
    """Run that many, started at the same time, with environment ``variables``."""
    with ExitStack() as stack:
        started = []
        for number in range(count):
            greeter = Greeter(f"g{number}", host, variables)
            stack.callback(greeter.end)
            started.append(greeter)
        yield [greeter.serving() for greeter in started]


@contextmanager
def closed_port() -> Iterator[str]:
    """Give an address whose connects are refused, and which nobody else takes meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"
