"""What a service costs before anybody calls it: imports, first call, memory when idle and for each idle connection."""

import resource
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from first_call import one_round
from measuring import Goal, judge, tell
from peers.processes import FOLDER, at_most, command, environment, serving

CONNECTIONS = 10_000
IMPORTING = "import time; t = time.perf_counter(); import micro_core; print(time.perf_counter() - t)"
REQUEST = (
    b"POST / HTTP/1.1\r\nHost: x\r\nMicro-Endpoint: Greeter.Hello\r\n"
    b'Content-Type: application/json\r\nContent-Length: 12\r\n\r\n{"name":"x"}'
)


def measure(turns: int, seconds: float) -> dict[str, float]:
    """Return what was measured by its name: milliseconds, MiB and KiB."""
    importing(), one_round()  # from here on all bytecode is there
    rounds = []
    for number in range(turns):
        tell(f"start, turn {number + 1} of {turns}")
        rounds.append(one_round() | {"import micro_core": importing()})
    measured = {f"{name}, ms": median(each[name] for each in rounds) for name in rounds[0]}
    with at_most(120), serving("on_micro_small") as (process, address):
        idle = resident_kib(process.pid)
        measured["idle service, MiB"] = idle / 1024
        measured["idle connection, KiB"] = (with_connections(address, process.pid) - idle) / CONNECTIONS
    return measured


def importing() -> float:
    command_line = command("-c", IMPORTING)
    done = subprocess.run(command_line, cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, timeout=30, check=True)
    return float(done.stdout) * 1e3


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def with_connections(address: str, pid: int) -> int:
    """Return the memory of a service that has had one call on each of many connections, which stay open."""
    host, _, port = address.rpartition(":")
    allow_files(CONNECTIONS + 100)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (CONNECTIONS + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with ExitStack() as open_:
        for _ in range(CONNECTIONS):
            connection = open_.enter_context(socket.create_connection((host, int(port)), timeout=10))
            connection.sendall(REQUEST)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        return resident_kib(pid)


def allow_files(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, files), hard), hard))


def table(measured: dict[str, float]) -> str:
    lines = ["| | |", "|---|---:|", *(f"| {name} | {value:,.1f} |" for name, value in measured.items())]
    return "\n".join(lines)


def goals(measured: dict[str, float]) -> list[Goal]:
    return [
        Goal(name, measured[name], wanted, at_most=True)
        for name, wanted in {
            "import micro_core, ms": 80,
            "first call: opening, ms": 60,
            "first call, all in all, ms": 300,
            "idle service, MiB": 35,
            "idle connection, KiB": 10,
        }.items()
    ]


def main() -> int:
    measured = measure(turns=5, seconds=1)
    print(table(measured))
    return judge(goals(measured))


if __name__ == "__main__":
    sys.exit(main())
