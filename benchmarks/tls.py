"""Unary and stream work in clear text and under TLS with each protocol, beside grpcio.aio with TLS, all in turn."""

import sys
import tempfile
from pathlib import Path

from measuring import Goal, Row, by_peer, judge, take_turns
from measuring import table as table_of
from peers.processes import SERVICE

from micro_dev_ca import Authority

PROTOCOLS = {"mux": "micro-mux,http/1.1", "http1": "http/1.1", "h2": "h2"}
US, GRPCIO = "on_micro:h2", "on_grpcio:tls"
UNARY, STREAM = "64:json:64", "64"
TITLES = {UNARY: "unary JSON, 64 B, 64 callers", STREAM: "stream, window of 64"}


def measure(turns: int, seconds: float) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        Authority(Path(folder)).issue("greeter")
        settings = ways(folder)
        unary, stream = (
            take_turns(list(settings), what, [work], turns=turns, seconds=seconds, settings=settings)
            for what, work in (("call", UNARY), ("stream", STREAM))
        )
        return unary + stream


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
    return table_of(rows, TITLES, US).replace("micro's is", "HTTP/2's is")


def goals(rows: list[Row]) -> list[Goal]:
    peers = by_peer(rows, UNARY)
    return [Goal("unary under TLS and HTTP/2, times grpcio.aio with TLS", peers[US].rate / peers[GRPCIO].rate, 2.0)]


def main() -> int:
    rows = measure(turns=3, seconds=1.5)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
