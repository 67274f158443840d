"""A bidirectional stream beside those of grpc-go and grpcio.aio: ping-pong, and a window of 64 messages under way."""

import sys

from measuring import TITLES as PEER_TITLES
from measuring import US, Goal, Row, by_peer, judge, take_turns
from measuring import table as table_of
from peers.tools import has_go

PEERS, IN_GO = [US, "on_grpcio", "on_micro_trio"], ["go_grpc"]
PING_PONG, WINDOW = "1", "64"
TITLES = {PING_PONG: "stream, ping-pong", WINDOW: "stream, window of 64"}
WANTED = [(PING_PONG, "on_grpcio", 2.0), (WINDOW, "on_grpcio", 8.0), (WINDOW, "go_grpc", 1.0)]


def measure(turns: int, seconds: float) -> list[Row]:
    peers = [*PEERS, *(IN_GO if has_go() else [])]
    return take_turns(peers, "stream", list(TITLES), turns=turns, seconds=seconds)


def table(rows: list[Row]) -> str:
    return table_of(rows, TITLES)


def goals(rows: list[Row]) -> list[Goal]:
    found = []
    for work, peer, times in WANTED:
        peers = by_peer(rows, work)
        if peer in peers:
            found.append(Goal(f"{TITLES[work]}, times {PEER_TITLES[peer]}", peers[US].rate / peers[peer].rate, times))
    return found


def main() -> int:
    rows = measure(turns=5, seconds=1)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
