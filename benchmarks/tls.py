"""Unary and stream work in clear text and under TLS with each protocol, beside grpcio.aio with TLS, all in turn.

And one GiB through a single stream over HTTP/2, with what it costs either side in memory.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Goal, Row, by_peer, judge, take_turns, tell
from measuring import table as table_of
from peers.processes import FOLDER, SERVICE, command, environment

from micro_dev_ca import Authority

PROTOCOLS = {"mux": "micro-mux,http/1.1", "http1": "http/1.1", "h2": "h2"}
US, GRPCIO = "on_micro:h2", "on_grpcio:tls"
UNARY, STREAM = "64:json:64", "64"
LARGE = {"up": "1 GiB from client to server", "down": "1 GiB from server to client"}
MIB = 1024
TITLES = {UNARY: "unary JSON, 64 B, 64 callers", STREAM: "stream, window of 64"}


def measure(turns: int, seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        Authority(Path(folder)).issue("greeter")
        settings = ways(folder)
        unary, stream = (
            take_turns(list(settings), what, [work], turns=turns, seconds=seconds, settings=settings)
            for what, work in (("call", UNARY), ("stream", STREAM))
        )
        return unary + stream + [large(way, settings[US]) for way in LARGE]


def large(way: str, settings: dict[str, str]) -> Row:
    """Return what a large stream did; its rate is MiB per second."""
    tell(LARGE[way])
    done = subprocess.run(
        command("large_stream.py", str(MIB), way),
        cwd=FOLDER, env={**environment(), **settings}, stdout=subprocess.PIPE, timeout=300, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    result = {"rate": MIB / said["seconds"], "client_memory": said["client"], "server_memory": said["server"]}
    return Row.of(way, US, [result])


def ways(folder: str) -> dict[str, dict[str, str]]:
    """Return what both ends of each peer are told; those that speak differently must not find each other."""
    files = {"CERT": "greeter.pem", "KEY": "greeter-key.pem", "CA": "ca.pem"}
    tls = {f"MICRO_TLS_{name}": f"{folder}/{file}" for name, file in files.items()}
    found = {"on_micro:clear": {"BENCHMARKED_SERVICE": f"{SERVICE}-clear"}}
    for name, protocols in PROTOCOLS.items():
        own = {"BENCHMARKED_SERVICE": f"{SERVICE}-{name}", "MICRO_TRANSPORT": f"http://?alpn={protocols}"}
        found[f"on_micro:{name}"] = tls | own
    return found | {GRPCIO: {"BENCHMARKED_CERTIFICATES": folder}}


def table(rows: list[Row]) -> str:
    lines = [table_of(rows, TITLES, US).replace("micro's is", "HTTP/2's is")]
    if streams := [row for row in rows if row.work in LARGE]:
        lines += ["", "**one stream over HTTP/2**", "", *LARGE_HEAD]
    for row in streams:
        memory = f"{row.client_memory:.1f} | {row.server_memory:.1f}"
        lines.append(f"| {LARGE[row.work]} | {MIB / row.rate:.1f} | {row.rate:,.0f} | {memory} |")
    return "\n".join(lines)


LARGE_HEAD = [
    "| | seconds | MiB per second | client's memory grows by MiB | server's |",
    "|---|---:|---:|---:|---:|",
]


def goals(rows: list[Row]) -> list[Goal]:
    peers = by_peer(rows, UNARY)
    reached = [Goal("unary under TLS and HTTP/2, times grpcio.aio with TLS", peers[US].rate / peers[GRPCIO].rate, 2.0)]
    if memory := [max(row.client_memory, row.server_memory) for row in rows if row.work in LARGE]:
        reached.append(Goal("memory of either side of 1 GiB in one stream, MiB", max(memory), 8, at_most=True))
    return reached


def main() -> int:
    rows = measure(turns=3, seconds=1.5)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
