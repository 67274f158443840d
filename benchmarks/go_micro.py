"""The same unary JSON call between Go Micro and this framework, in every combination, in one run.

Each server has one core and each client the other; the pairs take turns, in a network namespace of their own. Needs Go.
Exits 1 when a Python peer in a Go peer's place makes it slower: Go → Python and Python → Go against Go → Go.
"""

import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from peers.processes import cores

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "interop" / "python"))

from harness.build import build
from harness.cells import GO
from harness.network import Network
from harness.peers import Peers

LINES = ["v1", "v5"]
TURNS = 3
MANY = 64


def main() -> int:
    if shutil.which("go") is None:
        print("Go is missing, so nothing is measured: install Go 1.25 or newer")
        return 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        for line in LINES:
            build(Path(folder), line)
        network, peers = Network(Path(folder), running), Peers(Path(folder))
        server_core, client_core = cores()
        for peer in ("python", *LINES):
            peers.pinned(server_core).server(peer, network, "--name", peer)
        pairs = [pair for go in LINES for pair in ((go, go), (go, "python"), ("python", go))] + [("python", "python")]
        turns = [(pair, measured(peers.pinned(client_core), network, *pair)) for _ in range(TURNS) for pair in pairs]
    print(f"{'':24}{MANY:>4} callers, calls/s{'p50 µs':>9}{'p99 µs':>9}{'1 caller, p50 µs':>19}{'p99 µs':>9}")
    for pair in pairs:
        many, one = ([figures[each] for name, figures in turns if name == pair] for each in (MANY, 1))
        print(
            f"{named(pair[0])} → {named(pair[1])}".ljust(24)
            + f"{middle(many, 'rate'):>22.0f}{middle(many, 'p50') * 1e6:>9.0f}{middle(many, 'p99') * 1e6:>9.0f}"
            + f"{middle(one, 'p50') * 1e6:>19.0f}{middle(one, 'p99') * 1e6:>9.0f}"
        )
    rates = {pair: middle([figures[MANY] for name, figures in turns if name == pair], "rate") for pair in pairs}
    slower = [pair for go in LINES for pair in ((go, "python"), ("python", go)) if rates[pair] < rates[go, go]]
    for client, server in slower:
        print(f"slower than Go → Go: {named(client)} → {named(server)}")
    return 1 if slower else 0


def named(peer: str) -> str:
    return "Python" if peer == "python" else f"Go {GO[peer]}"


def middle(figures: list[dict[str, Any]], name: str) -> float:
    return float(median(each[name] for each in figures))


def measured(peers: Peers, network: Network, client: str, server: str) -> dict[int, dict[str, Any]]:
    """Let one client have its turn: many callers, then one."""
    outcomes = peers.client(client, network, f"rate_{MANY},rate_1", "--name", server).outcomes()
    failed = [each for each in outcomes if each.get("ok") is False]
    if failed:
        raise RuntimeError(f"{client} → {server}: {failed}")
    return {each["callers"]: each for each in outcomes if each.get("event") == "rate"}


if __name__ == "__main__":
    sys.exit(main())
