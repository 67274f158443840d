"""The README's programs and commands, executed in its order by a reader who types what it says."""

from __future__ import annotations

import ast
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "README.md"
PROGRAM = re.compile(r"# (\w+\.py)\n")
NOX = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install nox && \.venv/bin/nox(?: -s (\w+))?")
INSTALL = "pip install "
LOOPBACK = "mdns://?interface=127.0.0.1"
PATIENCE = 60  # seconds


@pytest.fixture
def reader(tmp_path: Path, blocks_of: Any, install: Callable[[list[str]], Path]) -> Any:
    blocks = blocks_of(README)
    with ExitStack() as running:
        reader = Reader(tmp_path, running)
        for block in blocks:
            if block.language == "python":
                reader.write(block.text, block.line)
        commands = [line for block in blocks if block.language == "sh" for line in block.text.splitlines()]
        installs = [command for command in commands if command.startswith(INSTALL)]
        assert len(installs) == 1
        reader.programs = install(shlex.split(installs[0].removeprefix(INSTALL)))
        yield reader, [command for command in commands if command not in installs]


def test_every_command_and_program_of_the_readme_works(reader: Any) -> None:
    someone, commands = reader
    for command in commands:
        if not NOX.fullmatch(command):
            someone.type(command)
    assert someone.typed == someone.written
    assert "Hello John\nHello Joan\n" in someone.output
    assert "{'greeting': 'Hello Ada'}\n" in someone.output


def test_commands_that_run_nox_are_those_of_the_checks(blocks_of: Any) -> None:
    commands = [line for block in blocks_of(README) if block.language == "sh" for line in block.text.splitlines()]
    found = [match for match in map(NOX.fullmatch, commands) if match]
    assert [match[1] for match in found if match[1]] == ["wheels", "demo"]
    assert {match[1] for match in found if match[1]} <= sessions()
    assert [match[0] in (ROOT / ".ci/run").read_text(encoding="utf-8") for match in found if not match[1]] == [True]


def sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}


class Reader:
    """Somebody with a folder and terminals: services go on in terminals of their own."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder = folder
        self.running = running
        self.programs = Path()
        self.written: set[str] = set()
        self.typed: set[str] = set()
        self.output = ""
        self.port = free_port()

    def write(self, text: str, line: int) -> None:
        named = PROGRAM.match(text)
        assert named, f"README.md:{line}: a python block starts with the name of its file, `# name.py`"
        assert named[1] not in self.written
        self.written.add(named[1])
        (self.folder / named[1]).write_text(text, encoding="utf-8")

    def type(self, command: str) -> None:
        """Do what a command says, with another port than 8080, and on loopback where nothing is said of that."""
        words = shlex.split(command.replace("8080", str(self.port)))
        settings = dict(word.split("=", 1) for word in words[: words.index("python")])
        program, *arguments = words[words.index("python") + 1 :]
        self.typed.add(program)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MICRO_", "PYTHON"))}
        process = self.running.enter_context(
            subprocess.Popen(
                [str(self.programs / "python"), program, *arguments],
                cwd=self.folder,
                env=inherited | {"MICRO_REGISTRY": LOOPBACK} | settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        self.running.callback(process.kill)
        if "service.run()" in (self.folder / program).read_text(encoding="utf-8"):
            self._wait_until_it_serves(process, command)
        else:
            output, _ = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, f"{command}\n{output}"
            self.output += output

    def _wait_until_it_serves(self, process: subprocess.Popen[str], command: str) -> None:
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line)
            if " serves at " in line:
                return
        pytest.fail(f"{command}\n{''.join(shown)}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
