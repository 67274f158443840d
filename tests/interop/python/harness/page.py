"""The matrix as docs/go-micro.md shows it.

Usage: python page.py prints it; with --write it goes into the page, with --check the page has to have it already.
"""

import ast
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from harness.cells import CASES, DEVIATIONS, FRAMED, GO, PAIRS, Cell

ROOT = Path(__file__).parent.parent.parent.parent.parent
PAGE = ROOT / "docs" / "go-micro.md"
BY_HAND = ROOT / "tests" / "wired" / "test_golden_calls.py"
BEGIN, END = "<!-- matrix: begin -->\n", "<!-- matrix: end -->\n"
NAMES = {"python": "Python"} | {peer: f"Go {version}" for peer, version in GO.items()}


def matrix() -> str:
    """Return the table of all cells and what the deviations are."""
    heads = [f"{NAMES[client]} → {NAMES[server]}" for client, server in PAIRS]
    lines = [f"| case | codecs | {' | '.join(heads)} |", "|---" * (len(heads) + 2) + "|"]
    lines += [_row(case) for case in CASES]
    lines += ["", *(_wrapped(f"{number}. ", each.reason) for number, each in enumerate(DEVIATIONS, 1))]
    lines += ["", "| what cannot be run here | tried with bytes made by hand |", "|---|---|", *_made_by_hand()]
    return "\n".join(lines) + "\n"


def _wrapped(mark: str, text: str) -> str:
    return textwrap.fill(
        mark + text, 120, subsequent_indent=" " * len(mark), break_long_words=False, break_on_hyphens=False
    )


def _made_by_hand() -> Iterator[str]:
    """Yield a row for each test of what Go Micro does in versions that cannot be had."""
    classes = {each.name: each for each in ast.parse(BY_HAND.read_text("utf-8")).body if isinstance(each, ast.ClassDef)}
    for test in classes["TestMadeByHand"].body:
        if isinstance(test, ast.AsyncFunctionDef):
            version, _, what = (ast.get_docstring(test) or "").partition(": ")
            yield f"| {version} | `{test.name}`: {what} |"


def _row(case: str) -> str:
    codecs = "all" if CASES[case] == FRAMED else ", ".join(CASES[case])
    return f"| `{case}` | {codecs} | {' | '.join(_cell(case, client, server) for client, server in PAIRS)} |"


def _cell(case: str, client: str, server: str) -> str:
    cell = Cell(case, client, server, CASES[case][0])
    return next((f"deviation {number}" for number, each in enumerate(DEVIATIONS, 1) if each.covers(cell)), "ok")


def page() -> str:
    """Return the page with the matrix of now."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + matrix() + "\n" + END + rest.partition(END)[2]


def main(*flags: str) -> None:
    """Print, write or check."""
    if "--write" in flags:
        PAGE.write_text(page(), encoding="utf-8")
    elif "--check" not in flags:
        print(matrix())
    elif page() != PAGE.read_text(encoding="utf-8"):
        sys.exit("docs/go-micro.md is out of date: nox -s interop -- --write-matrix")


if __name__ == "__main__":
    main(*sys.argv[1:])
