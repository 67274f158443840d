"""Starting and ending the processes of a benchmark."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent.parent
LOOPBACK = {"MICRO_REGISTRY": "mdns://?interface=127.0.0.1"}


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


def command(*arguments: str, core: int | None = None) -> list[str]:
    """Return the command line of `python ARGUMENTS`, bound to a core."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    return [*pinned, sys.executable, *arguments]


@contextmanager
def serving(peer: str, core: int | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server; yield its process and address once it answers."""
    with subprocess.Popen(
        command("-m", "peers", peer, "serve", core=core),
        cwd=FOLDER,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready, _, address = process.stdout.readline().strip().partition(" ")
            if ready != "ready":
                raise SystemExit(f"the server {peer} did not start")
            yield process, address
        finally:
            process.kill()
