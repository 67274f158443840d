"""Starting and ending the processes of a benchmark."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from .tools import go_program, nats_server_program

FOLDER = Path(__file__).parent.parent
LOOPBACK = {"MICRO_REGISTRY": "mdns://?interface=127.0.0.1"}
SERVICE = os.environ.setdefault("BENCHMARKED_SERVICE", f"greeter-{os.getpid()}")
"""The name of ours, one for each run and its processes: others on this machine may be discovering a greeter too."""
IN_GO = "go_"
"""Peers whose names begin so are programs of `benchmarks/go`, and take the same arguments."""

PYTHON = "BENCHMARKED_PYTHON"
"""The setting of a peer that is to run on another Python than this one, as compare.py has it."""

Result = dict[str, float]
Core = int | str | None
"""One core, several as taskset(1) writes them, or any."""


def environment() -> dict[str, str]:
    """Return the environment without settings of ours but the interface to discover on.

    Bytecode is written, as installers do for their users.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MICRO_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | LOOPBACK


def cores() -> tuple[int, int]:
    """Return a core for the server and one for the client, the same where there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def command(*arguments: str, core: Core = None, python: str = sys.executable) -> list[str]:
    """Return the command line of `python ARGUMENTS`, bound to a core."""
    return [*_pinned(core), python, *arguments]


def peer_command(peer: str, *arguments: str, core: Core = None, settings: Mapping[str, str]) -> list[str]:
    """Return the command line of a peer in whatever language, bound to a core; what follows a colon is a variant's."""
    peer = peer.partition(":")[0]
    if peer.startswith(IN_GO):
        return [*_pinned(core), str(go_program(peer.removeprefix(IN_GO))), *arguments]
    return command("-m", "peers", peer, *arguments, core=core, python=settings.get(PYTHON, sys.executable))


def _pinned(core: Core) -> list[str]:
    return [] if core is None else ["taskset", "-c", str(core)]


@contextmanager
def serving(
    peer: str, core: Core = None, *, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a server; yield its process and address once it answers."""
    with subprocess.Popen(
        peer_command(peer, "serve", core=core, settings=settings),
        cwd=FOLDER,
        env={**environment(), **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process, ready(process, peer)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ready(process: "subprocess.Popen[str]", peer: str) -> str:
    """Return the address that a server prints when it answers."""
    assert process.stdout is not None
    word, _, address = process.stdout.readline().strip().partition(" ")
    if word != "ready":
        raise SystemExit(f"the server {peer} did not start")
    return address


def turn(
    peer: str,
    what: str,
    server: tuple["subprocess.Popen[str]", str],
    core: Core,
    seconds: float,
    works: Sequence[str],
    *,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> list[Result]:
    """Let one client have its turn: do each of the works for that many seconds."""
    process, address = server
    arguments = [what, address, str(process.pid), str(seconds), *works]
    done = subprocess.run(
        peer_command(peer, *arguments, core=core, settings=settings),
        cwd=FOLDER,
        env={**environment(), **settings},
        stdout=subprocess.PIPE,
        timeout=60 + len(works) * seconds * 4,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what takes longer, wherever it waits."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError(f"a benchmark is not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def free_port() -> int:
    """Return a port of loopback that nobody listens at, for servers that cannot be asked for theirs."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def answers(port: int) -> bool:
    with socket.socket() as connecting:
        return connecting.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def nats_server() -> Iterator[str]:
    """Run a nats-server; yield its address."""
    port = free_port()
    with subprocess.Popen([nats_server_program(), "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL) as it:
        try:
            while not answers(port):
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            it.kill()
