"""What every benchmark shares: peers that take turns, medians of their turns, tables, and goals that are met or not."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from statistics import median
from types import MappingProxyType

from peers.processes import SERVICE, Result, cores, serving, turn

US, TITLES = "on_micro", {
    "on_micro": "micro",
    "on_micro_trio": "micro on trio",
    "on_floor": "the floor",
    "go_grpc": "grpc-go",
    "on_grpcio": "grpcio.aio",
    "on_grpclib": "grpclib",
    "on_aiohttp": "aiohttp",
    "on_granian_pyqwest": "pyqwest + granian",
    "on_uvicorn_httpx": "httpx + uvicorn",
    "on_nats": "nats-py",
    "on_micro:clear": "micro, clear text",
    "on_micro:tls": "micro, TLS",
    "on_micro:http1": "micro, TLS, HTTP/1.1",
    "on_micro:h2": "micro, TLS, HTTP/2",
    "go_grpc:tls": "grpc-go, TLS",
    "on_grpcio:tls": "grpcio.aio, TLS",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What one peer reached at one work: medians of its turns, and the lowest and highest rate among them."""

    work: str
    peer: str
    rate: float
    """Calls, echoes or messages per second."""
    lowest: float
    highest: float
    p50: float = 0
    """Seconds, as the three that follow."""
    p99: float = 0
    client_cpu: float = 0
    server_cpu: float = 0
    client_memory: float = 0
    """MiB by which it has grown, as that of the server."""
    server_memory: float = 0

    @classmethod
    def of(cls, work: str, peer: str, turns: Sequence[Result]) -> "Row":
        rates = [each["rate"] for each in turns]
        middle = {name: median(each[name] for each in turns) for name in turns[0] if name in cls.__annotations__}
        return cls(work, peer, **middle, lowest=min(rates), highest=max(rates))

    def as_json(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class Goal:
    """Something to be reached."""

    what: str
    reached: float
    wanted: float
    at_most: bool = False

    @property
    def is_met(self) -> bool:
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted

    def __str__(self) -> str:
        relation = "at most" if self.at_most else "at least"
        return f"{'met   ' if self.is_met else 'MISSED'} {self.what}: {self.reached:.3g} ({relation} {self.wanted:g})"


def take_turns(
    peers: Sequence[str],
    what: str,
    works: Sequence[str],
    *,
    turns: int,
    seconds: float,
    settings: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> list[Row]:
    """Return what each peer reached at each work: medians of what `each_turn` returns."""
    done = each_turn(peers, what, works, turns=turns, seconds=seconds, settings=settings)
    return [Row.of(work, peer, results) for (work, peer), results in done.items()]


def each_turn(
    peers: Sequence[str],
    what: str,
    works: Sequence[str],
    *,
    turns: int,
    seconds: float,
    settings: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> dict[tuple[str, str], list[Result]]:
    """Let the clients of all peers take turns (A B C A B C …), each doing every work for that many seconds.

    Returns the results of the turns by work and peer.
    Servers run all the time, on one core; each client has the other, where there are two. ``settings`` are variables
    for both ends of a peer. Every peer's service has a name of its own, so that clients that discover find but that.
    """
    server_core, client_core = cores()
    settings = {
        peer: {"BENCHMARKED_SERVICE": f"{SERVICE}-{number}", **settings.get(peer, {})}
        for number, peer in enumerate(peers)
    }
    done: dict[tuple[str, str], list[Result]] = {}
    with ExitStack() as running:
        servers = {peer: running.enter_context(serving(peer, server_core, settings=settings[peer])) for peer in peers}
        for number in range(turns):
            for peer in peers:
                tell(f"{what}, turn {number + 1} of {turns}: {TITLES.get(peer, peer)}")
                results = turn(peer, what, servers[peer], client_core, seconds, works, settings=settings[peer])
                for work, result in zip(works, results, strict=True):
                    done.setdefault((work, peer), []).append(result)
    return done


def by_peer(rows: Iterable[Row], work: str) -> dict[str, Row]:
    return {row.peer: row for row in rows if row.work == work}


def table(rows: Sequence[Row], titles: dict[str, str], us: str = US) -> str:
    """Return rows as Markdown, a section for each work, with the ratio of our rate to each peer's."""
    lines: list[str] = []
    for work, title in titles.items():
        peers = by_peer(rows, work)
        lines += ["", f"**{title}**", "", HEADER, RULE]
        for peer, row in sorted(peers.items(), key=lambda item: -item[1].rate):
            ratio = f"{peers[us].rate / row.rate:.2f}" if us in peers else ""
            spread = f"{row.lowest:,.0f} – {row.highest:,.0f}"
            cells = [TITLES.get(peer, peer), f"{row.rate:,.0f}", spread, ratio]
            cells += [f"{value * 1e6:,.0f}" if value else "" for value in (row.p50, row.p99)]
            cells += [f"{value * 1e6:,.1f}" if value else "" for value in (row.client_cpu, row.server_cpu)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines[1:])


HEADER = "| | per second | lowest – highest | micro's is … × | p50 µs | p99 µs | client CPU µs | server CPU µs |"
RULE = "|---|---:|---:|---:|---:|---:|---:|---:|"


def tell(text: str) -> None:
    """Say what is going on, where somebody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def judge(goals: Sequence[Goal]) -> int:
    """Print the goals; return 1 when one is missed, else 0."""
    tell("")
    for goal in goals:
        print(goal)
    return 0 if all(goal.is_met for goal in goals) else 1
