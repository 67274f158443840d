"""What a second worker brings on a second core, where a handler computes for about a millisecond.

There are two clients, so that a core which has a client and a worker has half of the clients' work. With one worker, it
has one core and both clients the other; with two, workers have both cores and each client has one of them. So what the
clients take on the workers' cores lowers what is shown, by some per cent: that is why the handler is dear.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from measuring import US, Goal, Row, judge, tell
from peers.processes import Result, cores, ready, serving, turn

PEER = "on_micro_busy"
WORK = "32:json:64"
"""What each client does."""
COUNTS = (1, 2)
LONG_ENOUGH = 2.0
"""Seconds: two clients do not begin and end at the very same moment."""


def measure(turns: int, seconds: float) -> list[Row]:
    """Return a row for each number of workers, as `workers 2`; none where there is one core."""
    first, second = cores()
    if first == second:
        return []
    done: dict[int, list[Result]] = {}
    for number in range(turns):
        for count in COUNTS:
            tell(f"workers, turn {number + 1} of {turns}: {count}")
            done.setdefault(count, []).append(one_turn(count, max(seconds, LONG_ENOUGH), first, second))
    return [Row.of(f"workers {count}", US, results) for count, results in done.items()]


def one_turn(count: int, seconds: float, first: int, second: int) -> Result:
    """Return what both clients did together."""
    server_cores, client_cores = (f"{first},{second}", (first, second)) if count > 1 else (first, (second, second))
    with serving(PEER, server_cores, settings={"MICRO_WORKERS": str(count)}) as (process, address):
        for _ in range(count - 1):
            ready(process, PEER)
        with ThreadPoolExecutor() as clients:
            started = [
                clients.submit(turn, PEER, "call", (process, address), core, seconds, [WORK]) for core in client_cores
            ]
            results = [result for each in started for result in each.result()]
    return {
        "rate": sum(each["rate"] for each in results),
        "p50": max(each["p50"] for each in results),
        "p99": max(each["p99"] for each in results),
    }


def table(rows: list[Row]) -> str:
    lines = ["| | calls per second | lowest – highest | p50 µs | p99 µs |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        latencies = f"{row.p50 * 1e6:,.0f} | {row.p99 * 1e6:,.0f}"
        lines.append(f"| {row.work} | {row.rate:,.0f} | {row.lowest:,.0f} – {row.highest:,.0f} | {latencies} |")
    return "\n".join(lines)


def goals(rows: list[Row]) -> list[Goal]:
    rate = {row.work: row.rate for row in rows}
    return [Goal("two workers on two cores, times one", rate["workers 2"] / rate["workers 1"], 1.8)] if rows else []


def main() -> int:
    rows = measure(turns=5, seconds=LONG_ENOUGH)
    if not rows:
        print("there is one core, so nothing is measured")
        return 0
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
