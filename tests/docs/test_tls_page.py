"""docs/tls.md, followed by a reader: its programs, and its commands in their order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent.parent / "docs" / "tls.md"
PROGRAM = re.compile(r"# (\w+\.py)\n")


def test_every_command_of_the_page_works(tmp_path: Path, blocks_of: Any, free_port: int) -> None:
    blocks = blocks_of(PAGE)
    for block in blocks:
        if block.language == "python" and (named := PROGRAM.match(block.text)):
            (tmp_path / named[1]).write_text(block.text, encoding="utf-8")
    commands = [line for block in blocks if block.language == "sh" for line in block.text.splitlines()]
    with ExitStack() as running:
        shown = [run(command.replace("8443", str(free_port)), tmp_path, running) for command in commands]
    assert len(commands) == 5
    assert shown[3:] == ["Hello John, says client\n", '"Hello Ada, says client"']


def end(process: subprocess.Popen[str]) -> None:
    """End a command and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def run(command: str, folder: Path, running: ExitStack) -> str:
    """Do what a command says, and return what it prints; a service goes on."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MICRO_", "PYTHON"))}
    inherited["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    process = running.enter_context(
        subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=inherited | {"MICRO_REGISTRY": "mdns://?interface=127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if "greeter.py" not in command else subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    )
    running.callback(end, process)
    if "greeter.py" not in command:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, f"{command}\n{errors}"
        return output
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if " serves at " in line:
            return ""
    pytest.fail(f"{command}\n{''.join(lines)}")
