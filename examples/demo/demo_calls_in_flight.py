"""The demo's second client: has calls in flight while one of two greeters is killed, and says what became of them."""

from collections.abc import Awaitable, Callable, Sequence

import anyio
from demo_greeter import GREETER, Greeter, Greeting, Name

from micro_core import Client, Executed, MicroError, Node, Selector

IDEMPOTENT_CALLS = 80
OTHER_CALLS = 8


class InTurn(Selector):
    """Takes the nodes in turn and counts the attempts. A part can be an object, too."""

    name = "in-turn"
    feedback = True

    def __init__(self) -> None:
        self.turn = 0
        self.attempts = 0

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        self.turn += 1
        return nodes[self.turn % len(nodes)]

    def started(self, node: Node) -> None:
        self.attempts += 1


async def main() -> None:
    selector = InTurn()
    async with Client(selector=selector) as client:
        # Generous, so that nothing but the kill makes a call fail.
        greeter = client.proxy(GREETER, Greeter, timeout=30, attempt_timeout=15)
        with anyio.fail_after(10):
            while len({(await greeter.hello(Name("Ada"))).by for _ in range(2)}) < 2:
                pass
        replies: list[Greeting] = []
        failed: list[MicroError] = []
        others_failed: list[MicroError] = []
        selector.attempts = 0
        async with anyio.create_task_group() as calls:
            for _ in range(OTHER_CALLS):
                calls.start_soon(note, greeter.send_flowers, [], others_failed)
            for _ in range(IDEMPOTENT_CALLS):
                calls.start_soon(note, greeter.compose, replies, failed)
            await anyio.lowlevel.checkpoint()
            print(f"has {IDEMPOTENT_CALLS} idempotent calls in flight, and {OTHER_CALLS} others", flush=True)
        report(replies, failed, others_failed, selector.attempts - IDEMPOTENT_CALLS - OTHER_CALLS)


async def note(
    method: Callable[[Name], Awaitable[Greeting]], replies: list[Greeting], failed: list[MicroError]
) -> None:
    try:
        replies.append(await method(Name("Ada")))
    except MicroError as error:
        failed.append(error)


def report(replies: list[Greeting], failed: list[MicroError], others_failed: list[MicroError], retried: int) -> None:
    print(f"idempotent calls: {len(replies)} answered, {len(failed)} failed; {retried} were retried", flush=True)
    print(f"calls that are not idempotent: {OTHER_CALLS - len(others_failed)} answered, {len(others_failed)} failed")
    for error in [*failed, *others_failed][:1]:
        print(f"what the first of them reports: {type(error).__name__}, executed: {error.executed}", flush=True)
        print(f"  {error}", flush=True)
    unclear = [error for error in others_failed if error.executed is not Executed.MAYBE]
    if failed or retried <= 0 or not others_failed or unclear:
        raise SystemExit("not as promised")


if __name__ == "__main__":
    anyio.run(main)
