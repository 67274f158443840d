"""How costs grow: with the nodes of a service, with the services that are known, with a topic's subscribers."""

import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pubsub
from measuring import US, Goal, Row, judge, tell
from peers.processes import FOLDER, SERVICE, Result, command, cores, environment, serving, turn

MANY, ONE = "64:json:64", "1:json:64"
NODES, SERVICES, SUBSCRIBERS = (3, 100, 1000), (10, 1000), (1, 20, 200)
SERVERS = 3
CONNECTED = 3.0
"""Seconds of a work in which every one of 1,000 nodes has its connection before the measured part begins."""
COPIES = 20_000


def measure(turns: int, seconds: float) -> list[Row]:
    """Return a row for each size, as `nodes 3`, whose rate is what can be done in a second."""
    return [*calls(turns, max(seconds, CONNECTED)), *discovery(turns), *publishing(turns)]


def calls(turns: int, seconds: float) -> list[Row]:
    """The registry is a file with so many nodes or services; the nodes are three servers under many ids."""
    server_core, client_core = cores()
    done: dict[str, list[Result]] = {}
    with ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        servers = [running.enter_context(serving(US, server_core)) for _ in range(SERVERS)]
        addresses = [address for _, address in servers]
        files = {f"nodes {count}": registry_file(folder, addresses, nodes=count) for count in NODES}
        files |= {f"services {count}": registry_file(folder, addresses, services=count) for count in SERVICES}
        for number in range(turns):
            for name, file in files.items():
                tell(f"growth, turn {number + 1} of {turns}: {name}")
                settings = {"MICRO_REGISTRY": f"static://{file}"}
                many, one = turn(US, "call", servers[0], client_core, seconds, [MANY, ONE], settings=settings)
                done.setdefault(f"{name}, 64 callers", []).append(many)
                done.setdefault(name, []).append(one)
    return [Row.of(name, US, results) for name, results in done.items()]


def registry_file(folder: str, addresses: list[str], *, nodes: int = SERVERS, services: int = 1) -> Path:
    records = [record(SERVICE, addresses, nodes), *(record(f"other-{n}", addresses, 3) for n in range(services - 1))]
    file = Path(folder, f"{nodes}-{services}.toml")
    file.write_text("\n".join(records), encoding="utf-8")
    return file


def record(name: str, addresses: list[str], nodes: int) -> str:
    endpoint = '{ name = "Greeter.Hello", metadata = { idempotent = "true" } }'
    listed = [
        f'{{ id = "{name}-{n}", address = "{addresses[n % len(addresses)]}", metadata = {{ micro = "1" }} }}'
        for n in range(nodes)
    ]
    return f'[[service]]\nname = "{name}"\nnodes = [{", ".join(listed)}]\nendpoints = [{endpoint}]\n'


def discovery(turns: int) -> list[Row]:
    """Look-ups and announcements over multicast DNS, beside so many services of another process."""
    rows = []
    for count in SERVICES:
        tell(f"growth: {count} services announced")
        done = subprocess.run(
            command("-m", "peers.discovery", str(count), str(turns * 4)),
            cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, timeout=300, check=True,
        )  # fmt: skip
        for name, result in json.loads(done.stdout).items():
            rows.append(Row.of(f"{name} {count}", US, [result]))
    return rows


def publishing(turns: int) -> list[Row]:
    """Messages to a topic with so many subscribers in one process; the rate is that of copies."""
    rows = []
    for count in SUBSCRIBERS:
        results = []
        for number in range(turns):
            tell(f"growth, turn {number + 1} of {turns}: {count} subscribers")
            rate = pubsub.one_turn(US, 1, COPIES // count, times=count)["rate"] * count
            results.append({"rate": rate, "p50": 1 / rate})
        rows.append(Row.of(f"a copy, subscribers {count}", US, results))
    return rows


def table(rows: list[Row]) -> str:
    lines = ["| | per second | p50 µs | client CPU µs |", "|---|---:|---:|---:|"]
    for row in rows:
        lines.append(f"| {row.work} | {row.rate:,.0f} | {row.p50 * 1e6:,.0f} | {row.client_cpu * 1e6:,.1f} |")
    return "\n".join(lines)


def goals(rows: list[Row]) -> list[Goal]:
    cost = {row.work: row.client_cpu for row in rows}
    copy = {row.work: row.p50 for row in rows}
    return [
        Goal(
            "cost of a copy, 200 subscribers to 1",
            copy["a copy, subscribers 200"] / copy["a copy, subscribers 1"],
            1.3,
            at_most=True,
        ),
        Goal("cost of a call, 1,000 nodes to 3", cost["nodes 1000"] / cost["nodes 3"], 1.1, at_most=True),
        Goal("cost of a call, 1,000 services to 10", cost["services 1000"] / cost["services 10"], 1.1, at_most=True),
    ]


def main() -> int:
    rows = measure(turns=5, seconds=1)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
