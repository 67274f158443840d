"""Unary calls through the whole default stack, beside peers: 1 to 256 callers, 64 B to 256 KiB, JSON and protobuf.

`python unary.py` measures the work that matters most beside grpcio.aio and aiohttp, and exits 1 when it is below three
times the rate of grpcio.aio; `python performance.py unary` measures everything beside everybody.
"""

import sys

from measuring import US, Goal, Row, by_peer, judge, take_turns
from measuring import table as table_of
from peers.tools import has_go

FEW = [US, "on_grpcio", "on_aiohttp"]
ALL = [US, "on_floor", "on_nats", "on_granian_pyqwest", "on_aiohttp", "on_grpcio", "on_grpclib", "on_uvicorn_httpx"]
ALL_ON_TRIO = "on_micro_trio"
IN_GO = ["go_grpc"]
MANY, ONE, LARGE = "64:json:64", "1:json:64", "16:json:262144"
WORKS = [f"{callers}:{codec}:64" for codec in ("json", "proto") for callers in (1, 16, 64, 256)]
WORKS += [f"{callers}:{codec}:{size}" for codec in ("json", "proto") for callers, size in ((64, 4096), (16, 256 << 10))]


def title(callers: str, codec: str, size: str) -> str:
    bytes_ = int(size)
    shown = f"{bytes_ >> 10} KiB" if bytes_ >= 1024 else f"{bytes_} B"
    kind = {"json": "JSON", "proto": "protobuf"}[codec]
    return f"unary {kind}, {shown}, {callers} caller{'s' if callers != '1' else ''}"


def measure(turns: int, seconds: float) -> list[Row]:
    peers = [*ALL, ALL_ON_TRIO, *(IN_GO if has_go() else [])]
    return take_turns(peers, "call", WORKS, turns=turns, seconds=seconds)


def table(rows: list[Row]) -> str:
    """Return the works that there are figures for."""
    return table_of(rows, {row.work: title(*row.work.split(":")) for row in rows})


def goals(rows: list[Row]) -> list[Goal]:
    many, one, large = (by_peer(rows, work) for work in (MANY, ONE, LARGE))
    wanted = {"go_grpc": 1.5, "on_grpcio": 10.0, "on_aiohttp": 4.0}
    wanted["on_floor"] = 0.7
    found = [
        Goal(f"unary JSON, 64 callers, times {peer}", many[US].rate / many[peer].rate, times)
        for peer, times in wanted.items()
        if peer in many
    ]
    found += [
        Goal(f"unary, 1 caller, p50 as a part of {peer}'s", one[US].p50 / one[peer].p50, part, at_most=True)
        for peer, part in {"go_grpc": 0.9, "on_grpcio": 1.0, "on_aiohttp": 1.0}.items()
        if peer in one
    ]
    found.append(Goal("unary, 1 caller, p50 times on_floor's", one[US].p50 / one["on_floor"].p50, 1.3, at_most=True))
    found.append(Goal("256 KiB bodies, times on_floor", large[US].rate / large["on_floor"].rate, 0.8))
    return found


def main() -> int:
    rows = take_turns(FEW, "call", [MANY, ONE], turns=5, seconds=1.5)
    print(table(rows))
    many = by_peer(rows, MANY)
    return judge([Goal("times grpcio.aio", many[US].rate / many["on_grpcio"].rate, 3.0)])


if __name__ == "__main__":
    sys.exit(main())
