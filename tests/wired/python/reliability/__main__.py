"""Measure every row at length, print the table, write docs/reliability.md; exits 1 where a goal is missed."""

import argparse
import os
import platform
import re
import sys
from pathlib import Path

import anyio

from .row import REPORT, Pace, Row
from .rows import ROWS

PAGE = Path(__file__).parents[4] / "docs" / "reliability.md"
TABLE = re.compile("(?<=<!-- rows -->\n).*(?=<!-- /rows -->)", re.DOTALL)


def main() -> int:
    options = arguments()
    for name in [name for name in os.environ if name.startswith("MICRO_")]:
        del os.environ[name]
    wanted = [row for row in ROWS if not options.kinds or row.kind in options.kinds]
    pace = Pace(seconds=options.seconds, rate=options.rate, patience=REPORT.patience)
    lines, missed = [], 0
    for row in wanted:
        line, is_met = measured(row, pace)
        sys.stdout.write(line)
        sys.stdout.flush()
        lines.append(line)
        missed += not is_met
    if options.write:
        write(lines, pace)
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "kinds", nargs="*", help=f"of {', '.join(dict.fromkeys(row.kind for row in ROWS))}; all if none"
    )
    parser.add_argument("--seconds", type=float, default=REPORT.seconds, help="how long the load of a row lasts")
    parser.add_argument("--rate", type=float, default=REPORT.rate, help="calls a second")
    parser.add_argument("--write", action="store_true", help="write the table into docs/reliability.md")
    options = parser.parse_args()
    if options.write and options.kinds:
        parser.error("the page has all rows: name none to write it")
    return options


def measured(row: Row, pace: Pace) -> tuple[str, bool]:
    """Return the line of a row, and whether its goal is met."""
    found = anyio.run(row.measure, pace)
    verdict = found.text if found.is_met else f"**missed**: {found.text}"
    return f"| {row.kind} | {row.fault} | {row.goal} | {verdict} |\n", found.is_met


def write(lines: list[str], pace: Pace) -> None:
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    head = (
        f"{machine}. {pace.seconds:.0f} s and {pace.rate:.0f} calls a second a row, where it says nothing else.\n"
        "\n| | what happens | what must hold | measured |\n|---|---|---|---|\n"
    )
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(TABLE.sub(lambda _: head + "".join(lines), page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
