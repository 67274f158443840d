"""Measure everything beside everybody, and write docs/performance.md, .json and .svg.

`python performance.py [--turns N] [--seconds S] [--print] [SECTION…]`: unary, go_micro, streams, tls, pubsub, start,
growth or workers. A section that is left out keeps what was measured before. With --print nothing is written but on
the screen: tables and goals.
"""

import argparse
import json
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import go_micro
import growth
import pubsub
import start
import streams
import tls
import unary
import workers
from measuring import TITLES, US, Goal, Row, by_peer, judge, tell

DOCS = Path(__file__).parent.parent / "docs"
PAGE, RESULTS, PLOT = (DOCS / f"performance.{suffix}" for suffix in ("md", "json", "svg"))
SECTIONS: dict[str, Any] = {
    "unary": unary,
    "go_micro": go_micro,
    "streams": streams,
    "tls": tls,
    "pubsub": pubsub,
    "start": start,
    "growth": growth,
    "workers": workers,
}
PANELS = [
    ("unary", unary.MANY, "rate", "unary JSON, 64 B: calls/s, 64 callers"),
    ("unary", unary.ONE, "p50", "unary JSON, 64 B: p50 of one caller, µs"),
    ("streams", streams.WINDOW, "rate", "stream, window of 64: echoes/s"),
    ("tls", tls.UNARY, "rate", "unary JSON, 64 B, TLS: calls/s, 64 callers"),
]
"""What is drawn: section, work, which figure of a row, title."""


def main() -> int:
    options = arguments()
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    goals: dict[str, list[Goal]] = {}
    for name in options.sections:
        measured = SECTIONS[name].measure(options.turns, options.seconds)
        goals[name] = SECTIONS[name].goals(measured)
        if options.print:
            tell("")
            print(SECTIONS[name].table(measured))
            continue
        rows = [row.as_json() for row in measured] if isinstance(measured, list) else measured
        results[name] = {"machine": machine(), "turns": options.turns, "seconds": options.seconds, "rows": rows}
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_page(results)
        if name in {section for section, *_ in PANELS}:
            plot(results)
    return judge([goal for each in goals.values() for goal in each])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--turns", type=int, default=5, help="how often each peer has its turn")
    parser.add_argument("--seconds", type=float, default=0.6, help="how long each work is done in a turn")
    parser.add_argument("--print", action="store_true", help="print tables and goals, and write nothing")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are: {', '.join(SECTIONS)}")
    options.sections = options.sections or list(SECTIONS)
    return options


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    return f"{model[1] if model else platform.machine()}, {cores} cores, Linux {platform.release()}, CPython {python}"


def rows_of(results: dict[str, Any], name: str) -> Any:
    rows = results[name]["rows"]
    return [Row(**row) for row in rows] if isinstance(rows, list) else rows


def write_page(results: dict[str, Any]) -> None:
    """Put tables and goals between the page's marks, `<!-- NAME -->` and `<!-- /NAME -->`."""
    page = PAGE.read_text(encoding="utf-8")
    for name in SECTIONS:
        if name in results:
            rows, run = rows_of(results, name), results[name]
            how = f"{run['machine']}. Medians of {run['turns']} turns of {run['seconds']:g} s."
            goals = "\n".join(f"- {goal}" for goal in SECTIONS[name].goals(rows))
            text = f"<!-- {name} -->\n{how}\n\n{SECTIONS[name].table(rows)}\n\n{goals}\n<!-- /{name} -->"
            before, _, rest = page.partition(f"<!-- {name} -->")
            page = before + text + rest.partition(f"<!-- /{name} -->")[2]
    PAGE.write_text(page, encoding="utf-8")


def plot(results: dict[str, Any]) -> None:
    """Draw rates and the median latency of what matters most, as far as it has been measured."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "micro"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 8), layout="constrained")
    for axis, (section, work, figure_of, name) in zip(axes.flat, PANELS, strict=True):
        peers = by_peer(rows_of(results, section), work) if section in results else {}
        slowest_first = sorted(peers.items(), key=lambda item: item[1].rate)
        colours = ["tab:orange" if peer in (US, tls.US) else "tab:gray" for peer, _ in slowest_first]
        values = [getattr(row, figure_of) * (1e6 if figure_of == "p50" else 1) for _, row in slowest_first]
        bars = axis.barh([TITLES[peer] for peer, _ in slowest_first], values, color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.margins(x=0.2)
        axis.locator_params(axis="x", nbins=5)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.set_title(name)
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
