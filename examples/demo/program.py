"""A program that the demo runs: a child process whose lines are shown, and can be waited for."""

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

FOLDER = Path(__file__).parent
GREETER = f"greeter-{os.getpid()}"
PATIENCE = 30.0  # seconds until something that must happen counts as not happening


class Broken(Exception):
    """Something that the demo promises did not happen."""


class Program:
    """A context manager: the process runs inside, and is ended when it is left."""

    def __init__(self, label: str, script: str, *arguments: str, environment: dict[str, str]) -> None:
        self._label = label
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._seen: list[str] = []
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(FOLDER / script), *arguments],
            env=_clean_environment() | {"DEMO_NAME": label, "DEMO_GREETER": GREETER} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(f"    {self._label:<12}| {line.rstrip()}", flush=True)
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def line_with(self, text: str) -> str:
        """Return the next line that holds ``text``. Raises `Broken` where none comes."""
        while True:
            try:
                line = self._lines.get(timeout=PATIENCE)
            except queue.Empty:
                raise Broken(f"{self._label} did not say {text!r} within {PATIENCE:.0f} s{self._errors()}") from None
            if line is None:
                self._lines.put(None)
                raise Broken(f"{self._label} ended before it said {text!r}{self._errors()}")
            self._seen.append(line)
            if text in line:
                return line

    def succeed(self) -> list[str]:
        """Wait for the end and return the lines. Raises `Broken` where the exit status is not 0."""
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken(f"{self._label} did not end within {PATIENCE:.0f} s{self._errors()}") from None
        if status:
            raise Broken(f"{self._label} ended with status {status}{self._errors()}")
        self._reader.join()
        while (line := self._lines.get()) is not None:
            self._seen.append(line)
        return self._seen

    def stop(self) -> None:
        """Ask the program to stop, and see that it does so in order."""
        self._process.terminate()
        self.succeed()

    def kill(self) -> None:
        """Kill the program, with no chance to say goodbye."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _errors(self) -> str:
        self._log.seek(0)
        text = self._log.read().decode(errors="replace").strip()
        return f"; its log:\n{text}" if text else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()


def _clean_environment() -> dict[str, str]:
    """Return the environment without settings of ours, so that the demo alone decides."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("MICRO_") and name != "PYTHONSAFEPATH"
    }
