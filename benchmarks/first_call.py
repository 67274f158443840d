"""How long a fresh client takes to its first answer, and how soon a watcher knows that a service has stopped.

Every process is new, everything is found over multicast DNS on loopback. The clock of the client starts when the
interpreter has, before any import. Exits 1 when the median is above what must be reached.
"""

import json
import signal
import subprocess
import sys
import time
from statistics import median

import anyio
from peers.processes import FOLDER, SERVICE, command, environment, serving

from micro_core import ChangeKind
from micro_core.testing import make_part

ROUNDS = 7
FIRST_CALL_MS = 300
GONE_MS = 1000


def main() -> int:
    one_round()  # from here on all bytecode is there
    rounds = [one_round() for _ in range(ROUNDS)]
    print(f"{'ms':28}{'median':>8}{'lowest':>8}{'highest':>8}")
    for name in rounds[0]:
        values = [each[name] for each in rounds]
        print(f"{name:28}{median(values):>8.0f}{min(values):>8.0f}{max(values):>8.0f}")
    first = median(each["first call, all in all"] for each in rounds)
    gone = max(each["stopped until gone"] for each in rounds)
    print(f"to be reached: first call {FIRST_CALL_MS} ms (median), gone {GONE_MS} ms (highest)")
    return 0 if first <= FIRST_CALL_MS and gone <= GONE_MS else 1


def one_round() -> dict[str, float]:
    with serving("on_micro_small") as (process, _):
        done = subprocess.run(
            command("-m", "peers.first_call"),
            cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, timeout=30, check=True,
        )  # fmt: skip
        measured: dict[str, float] = json.loads(done.stdout)
        return measured | {"stopped until gone": anyio.run(_seconds_until_gone, process) * 1e3}


async def _seconds_until_gone(process: "subprocess.Popen[str]") -> float:
    """Return the seconds from SIGTERM to the moment at which a watcher hears of it."""
    async with make_part("registry", "mdns", {"interface": "127.0.0.1"}) as registry:
        async with registry.watch(SERVICE) as changes:
            with anyio.fail_after(30):
                await anext(changes)  # it is there
                process.send_signal(signal.SIGTERM)
                started = time.perf_counter()
                while (await anext(changes)).kind is not ChangeKind.DELETE:
                    pass
            return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
