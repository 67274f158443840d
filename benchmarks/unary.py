"""Unary JSON calls through the whole default stack, beside grpcio.aio and aiohttp on one machine in one minute.

Each server has one core and each client the other; the three take turns, and the medians of all turns are compared.
Exits 1 when the rate at 64 callers is below three times that of grpcio.aio.
"""

import json
import subprocess
import sys
from contextlib import ExitStack
from statistics import median

from peers.processes import FOLDER, command, cores, environment, serving

PEERS = ["on_micro", "on_grpcio", "on_aiohttp"]
TURNS = 5
MANY = 64
SECONDS = 1.5
TIMES_GRPCIO = 3.0


def main() -> int:
    server_core, client_core = cores()
    if server_core == client_core:
        print("only one core: servers and clients share it")
    with ExitStack() as running:
        addresses = {peer: running.enter_context(serving(peer, server_core))[1] for peer in PEERS}
        turns = [(peer, run(peer, addresses[peer], client_core)) for _ in range(TURNS) for peer in PEERS]
    rates = {peer: median(many["rate"] for name, (many, _) in turns if name == peer) for peer in PEERS}
    alone = {peer: median(one["p50"] for name, (_, one) in turns if name == peer) for peer in PEERS}
    spread = {peer: [many["rate"] for name, (many, _) in turns if name == peer] for peer in PEERS}
    print(f"{'':12}{MANY:>6} callers, calls/s{'(lowest–highest)':>20}{'1 caller, p50 µs':>19}{'ratio':>8}")
    for peer in PEERS:
        extent = f"{min(spread[peer]):.0f}–{max(spread[peer]):.0f}"
        ratio = rates["on_micro"] / rates[peer]
        print(f"{peer[3:]:12}{rates[peer]:>22.0f}{extent:>20}{alone[peer] * 1e6:>19.0f}{ratio:>8.2f}")
    reached = rates["on_micro"] / rates["on_grpcio"]
    print(f"{reached:.2f} times grpcio.aio; to be reached: {TIMES_GRPCIO}")
    return 0 if reached >= TIMES_GRPCIO else 1


def run(peer: str, address: str, core: int) -> tuple[dict[str, float], dict[str, float]]:
    """Let one client have its turn: many callers, then one."""
    many, one = (_measured(peer, address, core, callers) for callers in (MANY, 1))
    return many, one


def _measured(peer: str, address: str, core: int, callers: int) -> dict[str, float]:
    arguments = ["-m", "peers", peer, "call", address, str(callers), str(SECONDS if callers > 1 else SECONDS / 2)]
    done = subprocess.run(
        command(*arguments, core=core), cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, timeout=60, check=True
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    sys.exit(main())
