"""Unary and stream work in clear text, and under TLS with each protocol, beside grpcio.aio with TLS.

Each server has one core and each client the other; all take turns, and the medians of all turns are compared.
Exits 1 when unary calls over HTTP/2 under TLS are made at less than twice the rate of grpcio.aio.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from peers.processes import FOLDER, command, cores, environment, serving
from peers.secure import MESSAGES

from micro_dev_ca import Authority

WAYS = {
    "clear text": ("on_micro_secure", "clear"),
    "TLS, micro-mux": ("on_micro_secure", "micro-mux,http/1.1"),
    "TLS, HTTP/1.1": ("on_micro_secure", "http/1.1"),
    "TLS, HTTP/2": ("on_micro_secure", "h2"),
    "grpcio.aio, TLS": ("on_grpcio_secure", "h2"),
}
TURNS = 3
SECONDS = 1.5
CALLERS = {"unary": 64, "stream": 8}
TIMES_GRPCIO = 2.0


def main() -> int:
    server_core, client_core = cores()
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        Authority(Path(folder)).issue("greeter")
        os.environ["BENCH_CERTIFICATES"] = folder
        addresses = {}
        for way, (peer, protocol) in WAYS.items():
            os.environ.update(BENCH_PROTOCOL=protocol, BENCH_WORK="unary")
            addresses[way] = running.enter_context(serving(peer, server_core))[1]
        for _ in range(TURNS):
            for work in CALLERS:
                for way, (peer, protocol) in WAYS.items():
                    os.environ.update(BENCH_PROTOCOL=protocol, BENCH_WORK=work)
                    rates.setdefault((work, way), []).append(run(peer, addresses[way], client_core, CALLERS[work]))
    middle = {key: median(found) for key, found in rates.items()}
    print(f"{'':20}{'unary calls/s':>16}{'(lowest–highest)':>20}{'ratio':>8}{'stream messages/s':>20}{'ratio':>8}")
    for way in WAYS:
        unary, stream = middle["unary", way], middle["stream", way] * MESSAGES
        extent = f"{min(rates['unary', way]):.0f}–{max(rates['unary', way]):.0f}"
        ratios = [middle[work, way] / middle[work, "grpcio.aio, TLS"] for work in CALLERS]
        print(f"{way:20}{unary:>16.0f}{extent:>20}{ratios[0]:>8.2f}{stream:>20.0f}{ratios[1]:>8.2f}")
    reached = middle["unary", "TLS, HTTP/2"] / middle["unary", "grpcio.aio, TLS"]
    print(f"TLS and HTTP/2: {reached:.2f} times grpcio.aio; to be reached: {TIMES_GRPCIO}")
    return 0 if reached >= TIMES_GRPCIO else 1


def run(peer: str, address: str, core: int, callers: int) -> float:
    """Let one client have its turn; return its calls per second."""
    arguments = ["-m", "peers", peer, "call", address, str(callers), str(SECONDS)]
    done = subprocess.run(
        command(*arguments, core=core), cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, timeout=60, check=True
    )
    rate: float = json.loads(done.stdout)["rate"]
    return rate


if __name__ == "__main__":
    sys.exit(main())
