"""Measure everything beside everybody, and write docs/performance.md, .json and .svg.

`python performance.py [--turns N] [--seconds S] [SECTION…]`: unary, go_micro, streams, tls, pubsub, start or growth.
A section that is left out keeps what was measured before.
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
from measuring import TITLES, Goal, Row, by_peer, judge

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
}


def main() -> int:
    options = arguments()
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    goals: dict[str, list[Goal]] = {}
    for name in options.sections:
        measured = SECTIONS[name].measure(options.turns, options.seconds)
        goals[name] = SECTIONS[name].goals(measured)
        rows = [row.as_json() for row in measured] if isinstance(measured, list) else measured
        results[name] = {"machine": machine(), "turns": options.turns, "seconds": options.seconds, "rows": rows}
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write_page(results)
        if name == "unary":
            plot(results)
    return judge([goal for each in goals.values() for goal in each])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--turns", type=int, default=5, help="how often each peer has its turn")
    parser.add_argument("--seconds", type=float, default=0.6, help="how long each work is done in a turn")
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
    """Draw the rate and the median latency of unary calls."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "micro"
    from matplotlib import pyplot

    rows = rows_of(results, "unary")
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    drawn: list[tuple[Any, dict[str, float], str]] = [
        (axes[0], {peer: row.rate for peer, row in by_peer(rows, unary.MANY).items()}, "calls/s, 64 callers"),
        (axes[1], {peer: row.p50 * 1e6 for peer, row in by_peer(rows, unary.ONE).items()}, "p50 of one caller, µs"),
    ]
    for axis, values, name in drawn:
        ordered = sorted(values.items(), key=lambda item: item[1], reverse=axis is axes[1])
        colours = ["tab:orange" if peer == "on_micro" else "tab:gray" for peer, _ in ordered]
        bars = axis.barh([TITLES[peer] for peer, _ in ordered], [value for _, value in ordered], color=colours)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3)
        axis.margins(x=0.15)
        axis.set_title(f"unary JSON, 64 B: {name}")
    figure.savefig(PLOT, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
