"""Judge the output of one run of every check, and close with the sum of its test runs.

Usage: python verdict.py LOG EXIT_STATUS SESSION…
Exits 1 when a check failed, one of the sessions did not run, or a skip hides coverage.
"""

import re
import sys
from collections import Counter
from pathlib import Path

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CLOSING = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s")
COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)")
SESSION = re.compile(r"^nox > Running session (?P<name>\S+)")
FAILURE = re.compile(r"^(FAILED|ERROR) \S")
SKIP = re.compile(r"^SKIPPED \[\d+\] [^ ]+ (?P<reason>.*)$")
# A part that does not claim an optional capability says so; nothing else may be skipped.
EXPECTED_SKIP = re.compile(r"not claimed")


def judge(text: str, status: int, sessions: list[str]) -> tuple[Counter[str], list[str]]:
    """Return how many tests ended how, and what is wrong with the run."""
    lines = COLOURS.sub("", text).splitlines()
    counts: Counter[str] = Counter()
    for closing in filter(None, map(CLOSING.match, lines)):
        counts.update({word.removesuffix("s"): int(number) for number, word in COUNT.findall(closing[1])})
    wrong = [f"nox exited with status {status}"] if status else []
    if not counts["passed"]:
        wrong.append("no test ran")
    wrong += _failures(lines)
    wrong += [f"the session {name} did not pass" for name in sessions if not _succeeded(lines, name)]
    wrong += [f"unexpected skip: {skip['reason']}" for skip in map(SKIP.match, lines) if skip and _unexpected(skip)]
    return counts, wrong


def _failures(lines: list[str]) -> list[str]:
    """Return the tests that failed, with the session of each: what stands far above the end of a long log."""
    found, session = [], ""
    for line in lines:
        if running := SESSION.match(line):
            session = running["name"]
        elif FAILURE.match(line):
            found.append(f"in {session}: {line}")
    return found


def _succeeded(lines: list[str], session: str) -> bool:
    return any(re.search(rf"\* {re.escape(session)}: success", line) for line in lines)


def _unexpected(skip: re.Match[str]) -> bool:
    return EXPECTED_SKIP.search(skip["reason"]) is None


def main(log: str, status: str, *sessions: str) -> int:
    """Print the verdict on a log file; return the exit status."""
    counts, wrong = judge(Path(log).read_text(encoding="utf-8", errors="replace"), int(status), list(sessions))
    print()
    for line in wrong:
        print(f"WRONG: {line}")
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    print(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed{skipped}")
    return 1 if wrong or counts["failed"] or counts["error"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
