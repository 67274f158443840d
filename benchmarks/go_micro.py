"""The same unary JSON call between Go Micro and this framework, in every combination, in one run.

Each server has one core and each client the other; the pairs take turns, in a network namespace of their own. Needs Go.
Exits 1 when a goal is missed: as fast as Go → Go where one of the two is Python, eight times as fast where both are.
"""

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from measuring import Goal, Row, by_peer, judge, tell
from peers.processes import Result, cores
from peers.tools import has_go

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "interop" / "python"))

from harness.build import build
from harness.cells import GO
from harness.network import Network
from harness.peers import Peers

LINES = ["v1", "v5"]
MANY, ONE = 64, 1
PAIRS = [pair for go in LINES for pair in ((go, go), (go, "python"), ("python", go))] + [("python", "python")]


def measure(turns: int, seconds: float) -> list[Row]:
    """Return a row for each pair and number of callers; none where Go is missing. Programs choose their own time."""
    if not has_go():
        return []
    done: dict[tuple[str, str], list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        for line in LINES:
            build(Path(folder), line)
        network, peers = Network(Path(folder), running), Peers(Path(folder))
        server_core, client_core = cores()
        for peer in ("python", *LINES):
            peers.pinned(server_core).server(peer, network, "--name", peer)
        for number in range(turns):
            for client, server in PAIRS:
                tell(f"Go Micro, turn {number + 1} of {turns}: {named(client)} → {named(server)}")
                figures = measured(peers.pinned(client_core), network, client, server)
                for callers in (MANY, ONE):
                    done.setdefault((str(callers), title(client, server)), []).append(figures[callers])
    return [Row.of(callers, pair, results) for (callers, pair), results in done.items()]


def table(rows: list[Row]) -> str:
    lines = [
        f"| client → server | {MANY} callers, calls/s | lowest – highest | p50 µs | p99 µs | 1: p50 µs | p99 µs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    many, one = by_peer(rows, str(MANY)), by_peer(rows, str(ONE))
    for pair, row in many.items():
        cells = [pair, f"{row.rate:,.0f}", f"{row.lowest:,.0f} – {row.highest:,.0f}"]
        cells += [f"{value * 1e6:,.0f}" for value in (row.p50, row.p99, one[pair].p50, one[pair].p99)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def goals(rows: list[Row]) -> list[Goal]:
    rate = {pair: row.rate for pair, row in by_peer(rows, str(MANY)).items()}
    found = []
    for go in LINES if rows else ():
        alone = rate[title(go, go)]
        found += [
            Goal(f"{title(*pair)}, times {title(go, go)}", rate[title(*pair)] / alone, 1.0)
            for pair in ((go, "python"), ("python", go))
        ]
        found.append(Goal(f"Python → Python, times {title(go, go)}", rate[title("python", "python")] / alone, 8.0))
    return found


def main() -> int:
    rows = measure(turns=3, seconds=1)
    if not rows:
        print("Go is missing, so nothing is measured: install Go 1.25 or newer")
        return 0
    print(table(rows))
    return judge(goals(rows))


def title(client: str, server: str) -> str:
    return f"{named(client)} → {named(server)}"


def named(peer: str) -> str:
    return "Python" if peer == "python" else f"Go {GO[peer]}"


def measured(peers: Peers, network: Network, client: str, server: str) -> dict[int, dict[str, Any]]:
    """Let one client have its turn: many callers, then one."""
    program = peers.client(client, network, f"rate_{MANY},rate_{ONE}", "--name", server)
    outcomes = program.outcomes()
    figures = {each["callers"]: each for each in outcomes if each.get("event") == "rate"}
    if figures.keys() != {MANY, ONE}:
        raise RuntimeError(f"{client} → {server}: {outcomes}\n{program.log_end()}")
    return figures


if __name__ == "__main__":
    sys.exit(main())
