"""Networks that the tests make for themselves, and the programs that run in them. No packet leaves the machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PATIENCE = 60
"""Seconds after which a program that should have ended is taken for hanging."""
LOOPBACK = "ip link set lo up; ip route add 224.0.0.0/4 dev lo"
"""What lets Go's programs find each other on one machine (docs/wire.md §11.1)."""


class Program:
    """A running program: what it prints is read line by line, what it logs lies in a file."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self.log = log

    @property
    def pid(self) -> int:
        """The process, for signals."""
        return self._process.pid

    def line(self) -> str:
        """Return the next line; raise AssertionError with the log where the program has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self} ended:\n{self.log_end()}"
        return line.rstrip("\n")

    def line_with(self, text: str) -> str:
        """Return the next line that has ``text`` in it."""
        while text not in (line := self.line()):
            pass
        return line

    def logged(self, pattern: str) -> None:
        """Wait until it has logged what the pattern finds."""
        deadline = time.monotonic() + PATIENCE / 2
        while not re.search(pattern, self.log.read_text(encoding="utf-8", errors="replace")):
            assert self._process.poll() is None, f"{self} ended:\n{self.log_end()}"
            assert time.monotonic() < deadline, f"{self} does not say {pattern}:\n{self.log_end()}"
            time.sleep(0.05)  # a file tells nobody that it has grown

    def event(self, name: str) -> dict[str, Any]:
        """Return the event of that name, which has to be the next line."""
        said: dict[str, Any] = json.loads(self.line())
        assert said.get("event") == name, f"{said}\n{self.log_end()}"
        return said

    def go_on(self) -> None:
        """Tell a program that waits for a word to go on."""
        self.say("")

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def outcomes(self) -> list[dict[str, Any]]:
        """Wait for the end and return the lines that it printed, as JSON."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def closed(self) -> list[dict[str, Any]]:
        """Close its standard input, which ends it, and return the lines that it printed, as JSON."""
        return [json.loads(line) for line in self.finished().splitlines() if line.startswith("{")]

    def finished(self) -> str:
        """Close its standard input, which ends it, and return all that it printed and nobody has read."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.stdin = None
        return self.output()

    def output(self) -> str:
        """Wait for the end and return all that it printed and nobody has read."""
        assert self._process.stdout is not None
        printed = self._process.stdout.read()
        self._process.wait(timeout=PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.stdin = self._process.stdout = None
        return printed

    def stop(self) -> int:
        """Ask it to stop, as an operator does, and return its exit status."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end and return the exit status."""
        return self._process.wait(timeout=PATIENCE)

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it without a goodbye."""
        self.signal(signal.SIGKILL)
        self._process.wait(timeout=PATIENCE)

    def log_end(self) -> str:
        """Return the last of what it logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-3000:]

    def __repr__(self) -> str:
        return f"<Program {self._process.args!r}>"


class Network:
    """A host: a network namespace held by a process, in which programs are started."""

    def __init__(self, logs: Path, stack: ExitStack, setup: str = LOOPBACK, inside: Network | None = None) -> None:
        self._logs = logs
        self._stack = stack
        self._count = 0
        unshare = ("unshare", "--net") if inside else ("unshare", "--user", "--map-root-user", "--net")
        before = inside._enter("--user") if inside else ()
        self._holder = self._popen(*before, *unshare, "sh", "-ec", f"{setup}; echo ready; exec cat")
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            raise RuntimeError("no network namespace can be made here: run as root or allow user namespaces")

    @property
    def pid(self) -> int:
        """The process that holds the namespace."""
        return self._holder.pid

    def run(self, script: str) -> None:
        """Run a shell script in it."""
        subprocess.run([*self._enter("--user", "--net"), "sh", "-ec", script], check=True, timeout=PATIENCE)

    def start(self, *command: str, **environment: str) -> Program:
        """Start a program; it is killed when the test is done."""
        self._count += 1
        log = self._logs / f"{self.pid}-{self._count}-{Path(command[0]).name}.log"
        with log.open("w") as errors:
            process = self._popen(*self._enter("--user", "--net"), *command, stderr=errors, **environment)
        return Program(process, log)

    def _enter(self, *namespaces: str) -> tuple[str, ...]:
        return ("nsenter", f"--target={self.pid}", *namespaces, "--preserve-credentials")

    def _popen(self, *command: str, stderr: Any = None, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=clean_environment() | environment,
        )
        self._stack.callback(_end, process)
        return process


def clean_environment() -> dict[str, str]:
    """Return this process's environment without what changes how parts are chosen or modules found."""
    return {k: v for k, v in os.environ.items() if not k.startswith("MICRO_") and k != "PYTHONSAFEPATH"}


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def lan(logs: Path, stack: ExitStack, hosts: int, *, subnet: int = 99) -> list[Network]:
    """Return hosts on one Ethernet, with the addresses 10.<subnet>.0.1 and up."""
    switch = Network(logs, stack, "ip link set lo up; ip link add switch type bridge; ip link set switch up")
    found = [Network(logs, stack, "ip link set lo up", inside=switch) for _ in range(hosts)]
    for number, host in enumerate(found, start=1):
        plug(switch, host, f"port{number}", f"10.{subnet}.0.{number}", "eth0")
        host.run("ip route add 224.0.0.0/4 dev eth0")
    return found


def plug(switch: Network, host: Network, port: str, address: str, interface: str) -> None:
    """Join a host to a switch by a cable."""
    switch.run(f"ip link add {port} type veth peer name {interface} netns {host.pid}")
    switch.run(f"ip link set {port} master switch; ip link set {port} up")
    host.run(f"ip addr add {address}/24 dev {interface}; ip link set {interface} up")
