"""Compare this checkout with another one, in turns: unary calls and streams, in clear text or with --tls.

`python compare.py BASE_CHECKOUT [--tls] [--turns N] [--seconds S]`; the commit before this one is such a checkout after
`git worktree add --detach ../before HEAD~1`. Each runs in its own `.venv`, with everything editable (CONTRIBUTING.md);
one that is missing is made. The code that measures is this checkout's on both sides.

A ratio is the median of those of the turns, in each of which both were measured one right after the other: so it wavers
less than the rates do. Processor time wavers least on a machine that others use too.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import streams
import tls
import unary
from measuring import each_turn, tell
from peers.processes import FOLDER, PYTHON, Result

from micro_dev_ca import Authority

HERE = FOLDER.parent
BASE, THIS = "on_micro:base", "on_micro:this"
WORKS = {
    "call": {unary.MANY: "unary, 64 callers", unary.ONE: "unary, 1 caller"},
    "stream": {streams.WINDOW: "stream, window of 64", streams.PING_PONG: "stream, ping-pong"},
}
IMPORTED = "import micro_core, micro_transport_http as http; print(micro_core.__file__, http.__file__, sep='\\n')"
HEAD = """\
| | base, per second | this | this is … × | lowest – highest | client CPU µs, base | this | server CPU µs, base | this |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        Authority(Path(folder)).issue("greeter")
        both = tls.certified(folder) if options.tls else {}
        pythons = {BASE: str(python_of(options.base)), THIS: str(python_of(HERE))}
        settings = {peer: {**both, PYTHON: python} for peer, python in pythons.items()}
        lines = []
        for what, titles in WORKS.items():
            done = each_turn(
                list(settings), what, list(titles), turns=options.turns, seconds=options.seconds, settings=settings
            )
            lines += [line(title, done[work, BASE], done[work, THIS]) for work, title in titles.items()]
    tell("")
    print(f"{HEAD}\n" + "\n".join(lines))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=lambda path: Path(path).resolve(), metavar="BASE_CHECKOUT")
    parser.add_argument("--tls", action="store_true", help="speak TLS, with the protocol that is agreed on by default")
    parser.add_argument("--turns", type=int, default=7, help="how often each has its turn")
    parser.add_argument("--seconds", type=float, default=0.6, help="how long each work is done in a turn")
    options = parser.parse_args()
    if not Path(options.base, "micro_core").is_dir():
        parser.error(f"{options.base} is no checkout of this repository: it has no micro_core")
    if options.base == HERE:
        parser.error(f"{options.base} is the checkout that this program is in; name another one")
    return options


def python_of(checkout: Path) -> Path:
    """Return the Python of a checkout's environment; raise SystemExit where that runs code of another place."""
    python = checkout / ".venv" / "bin" / "python"
    if not python.exists():
        make_environment(checkout)
    said = subprocess.run([python, "-c", IMPORTED], cwd=FOLDER, stdout=subprocess.PIPE, text=True, check=True)
    for file in said.stdout.splitlines():
        if not Path(file).is_relative_to(checkout) or "site-packages" in file:
            raise SystemExit(
                f"{python} imports {file}, not what is in {checkout}; install all of that editable (CONTRIBUTING.md)"
            )
    return python


def make_environment(checkout: Path) -> None:
    tell(f"making {checkout}/.venv")
    editable = [f"--editable={folder}" for folder in (checkout, *sorted(checkout.glob("plugins/*/")))]
    python = checkout / ".venv" / "bin" / "python"
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, checkout / ".venv"], check=True)
    subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, *editable, "uvloop"], check=True)


def line(title: str, base: Sequence[Result], this: Sequence[Result]) -> str:
    """Return a work's line of the table."""
    ratios = [one["rate"] / other["rate"] for other, one in zip(base, this, strict=True)]
    rates = [f"{median(each['rate'] for each in side):,.0f}" for side in (base, this)]
    spread = f"{min(ratios):.2f} – {max(ratios):.2f}"
    costs = [
        f"{median(each[end] for each in side) * 1e6:,.1f}"
        for end in ("client_cpu", "server_cpu")
        for side in (base, this)
    ]
    return f"| {' | '.join([title, *rates, f'{median(ratios):.2f}', spread, *costs])} |"


if __name__ == "__main__":
    sys.exit(main())
