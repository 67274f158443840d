"""A bidirectional stream beside grpcio.aio's: ping-pong, and a window of 64 messages under way."""

import sys

from measuring import US, Goal, Row, by_peer, judge, take_turns
from measuring import table as table_of

PEERS = [US, "on_grpcio", "on_micro_trio"]
TITLES = {"1": "stream, ping-pong", "64": "stream, window of 64"}


def measure(turns: int, seconds: float) -> list[Row]:
    return take_turns(PEERS, "stream", list(TITLES), turns=turns, seconds=seconds)


def table(rows: list[Row]) -> str:
    return table_of(rows, TITLES)


def goals(rows: list[Row]) -> list[Goal]:
    found = []
    for work, times in (("1", 2.0), ("64", 8.0)):
        peers = by_peer(rows, work)
        found.append(Goal(f"{TITLES[work]}, times grpcio.aio", peers[US].rate / peers["on_grpcio"].rate, times))
    return found


def main() -> int:
    rows = measure(turns=5, seconds=1)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
