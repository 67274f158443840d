"""Unary and stream work in clear text, under TLS by default and with each protocol, beside gRPC with TLS, all in turn.

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
from peers.tools import has_go

from micro_dev_ca import Authority

PROTOCOLS = {"http1": "http/1.1", "h2": "h2"}
US, OVER_HTTP2, GRPCIO, GRPC_GO = "on_micro:tls", "on_micro:h2", "on_grpcio:tls", "go_grpc:tls"
UNARY, ONE, STREAM, PING_PONG = "64:json:64", "1:json:64", "64", "1"
WORKS = {"call": [UNARY, ONE], "stream": [STREAM, PING_PONG]}
LARGE = {"up": "1 GiB from client to server", "down": "1 GiB from server to client"}
MIB = 1024
TITLES = {
    UNARY: "unary JSON, 64 B, 64 callers",
    ONE: "unary JSON, 64 B, 1 caller",
    STREAM: "stream, window of 64",
    PING_PONG: "stream, ping-pong",
}


def measure(turns: int, seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        Authority(Path(folder)).issue("greeter")
        settings = ways(folder)
        small = [
            row
            for what, works in WORKS.items()
            for row in take_turns(list(settings), what, works, turns=turns, seconds=seconds, settings=settings)
        ]
        return small + [large(way, settings[OVER_HTTP2]) for way in LARGE]


def large(way: str, settings: dict[str, str]) -> Row:
    """Return what a large stream did; its rate is MiB per second."""
    tell(LARGE[way])
    done = subprocess.run(
        command("large_stream.py", str(MIB), way),
        cwd=FOLDER, env={**environment(), **settings}, stdout=subprocess.PIPE, timeout=300, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout)
    result = {"rate": MIB / said["seconds"], "client_memory": said["client"], "server_memory": said["server"]}
    return Row.of(way, OVER_HTTP2, [result])


def ways(folder: str) -> dict[str, dict[str, str]]:
    """Return what both ends of each peer are told; those that speak differently must not find each other."""
    tls = certified(folder)
    found = {"on_micro:clear": {"BENCHMARKED_SERVICE": f"{SERVICE}-clear"}}
    found[US] = tls | {"BENCHMARKED_SERVICE": f"{SERVICE}-tls"}
    for name, protocols in PROTOCOLS.items():
        own = {"BENCHMARKED_SERVICE": f"{SERVICE}-{name}", "MICRO_TRANSPORT": f"http://?protocols={protocols}"}
        found[f"on_micro:{name}"] = tls | own
    grpc = [GRPCIO, *([GRPC_GO] if has_go() else [])]
    return found | {peer: {"BENCHMARKED_CERTIFICATES": folder} for peer in grpc}


def certified(folder: str) -> dict[str, str]:
    """Return the settings of ours for TLS with what the authority of a folder has issued to the greeter."""
    files = {"CERT": "greeter.pem", "KEY": "greeter-key.pem", "CA": "ca.pem"}
    return {f"MICRO_TLS_{name}": f"{folder}/{file}" for name, file in files.items()}


def table(rows: list[Row]) -> str:
    lines = [table_of(rows, {work: title for work, title in TITLES.items() if by_peer(rows, work)}, US)]
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
    unary, stream = by_peer(rows, UNARY), by_peer(rows, STREAM)
    over_http2 = unary[OVER_HTTP2].rate / unary[GRPCIO].rate
    reached = [Goal("unary under TLS and HTTP/2, times grpcio.aio with TLS", over_http2, 2.0)]
    for peers, work, times in (
        (unary, "unary under TLS, 64 callers", 1.0),
        (stream, "stream under TLS, window of 64", 0.8),
    ):
        if GRPC_GO in peers:
            reached.append(Goal(f"{work}, times grpc-go", peers[US].rate / peers[GRPC_GO].rate, times))
    if memory := [max(row.client_memory, row.server_memory) for row in rows if row.work in LARGE]:
        reached.append(Goal("memory of either side of 1 GiB in one stream, MiB", max(memory), 8, at_most=True))
    return reached


def main() -> int:
    rows = measure(turns=3, seconds=1.5)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
