"""Messages from one publisher to one and to ten subscribers, each a process, published without a pause.

Beside FastStream on a nats-server, and one POST for each message with httpx and uvicorn. The rate is that of messages
of which every subscriber has handled its copy; what got lost is counted.
"""

import json
import subprocess
import sys
from contextlib import ExitStack

from measuring import US, Goal, Row, by_peer, judge, tell
from measuring import table as table_of
from peers.processes import FOLDER, Result, at_most, command, cores, environment, nats_server, ready

PEERS = {US: 20_000, "on_faststream": 20_000, "on_post": 500}
"""How many messages each is given: enough for a second or so."""
TITLES = {"1": "publish/subscribe, one subscriber", "10": "publish/subscribe, ten subscribers"}


def measure(turns: int, seconds: float) -> list[Row]:
    rows = []
    for subscribers in map(int, TITLES):
        done: dict[str, list[Result]] = {peer: [] for peer in PEERS}
        for number in range(turns):
            for peer, messages in PEERS.items():
                tell(f"publish, turn {number + 1} of {turns}: {peer} to {subscribers}")
                done[peer].append(one_turn(peer, subscribers, messages // (1 if subscribers == 1 else 5)))
        rows += [Row.of(str(subscribers), peer, results) for peer, results in done.items()]
    return rows


def one_turn(peer: str, subscribers: int, messages: int, *, times: int = 1) -> Result:
    """Return the rate of one publisher. Raises SystemExit where a message was lost: none of them may lose any.

    Our subscribers may be there many ``times`` each.
    """
    subscriber_core, publisher_core = cores()
    module = f"peers.pub_{peer.removeprefix('on_')}"
    with at_most(120), ExitStack() as running:
        broker = running.enter_context(nats_server()) if peer == "on_faststream" else ""
        started = [
            running.enter_context(subscribing(module, messages, broker or str(times), subscriber_core))
            for _ in range(subscribers)
        ]
        for process in started:
            running.callback(process.kill)
        addresses = [ready(process, module) for process in started]
        done = subprocess.run(
            command("-m", module, "publish", str(messages), broker or ",".join(addresses), core=publisher_core),
            cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, timeout=120, check=True,
        )  # fmt: skip
        begun = json.loads(done.stdout)
        ends = [json.loads(process.stdout.readline()) for process in started if process.stdout]
    lost = sum(messages * times - end["received"] for end in ends)
    if lost:
        raise SystemExit(f"{peer} lost {lost} of {messages * subscribers} messages")
    return {"rate": messages / (max(end["at"] for end in ends) - begun["at"])}


def subscribing(module: str, messages: int, argument: str, core: int) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("-m", module, "subscribe", str(messages), argument, core=core),
        cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def table(rows: list[Row]) -> str:
    return table_of(rows, TITLES)


def goals(rows: list[Row]) -> list[Goal]:
    one = by_peer(rows, "1")
    return [Goal("publish, one subscriber, times FastStream on NATS", one[US].rate / one["on_faststream"].rate, 1.0)]


def main() -> int:
    rows = measure(turns=5, seconds=1)
    print(table(rows))
    return judge(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
