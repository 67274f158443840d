"""The demo's client: calls, streams and a message; knows nothing of the parts that carry them.

The argument is how many greeters shall have answered in the end.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator

import anyio
from demo_greeter import GREETER, Greeter, Greeting, Name

from micro_core import Client, PublishError

SECONDS_TO_HEAR_EVERY_GREETER = 10


async def main(greeters: int) -> None:
    async with Client() as client:
        greeter = client.proxy(GREETER, Greeter)
        await call(greeter, greeters)
        await stream(greeter)
        await publish(client)


async def call(greeter: Greeter, greeters: int) -> None:
    """Call until every greeter has answered."""
    answers: Counter[str] = Counter()
    with anyio.fail_after(SECONDS_TO_HEAR_EVERY_GREETER):
        while len(answers) < greeters or answers.total() < 10:
            greeting = await greeter.hello(Name("Ada"))
            expect(greeting.text, "Hello Ada")
            answers[greeting.by] += 1
    shares = ", ".join(f"{count} by {name}" for name, count in sorted(answers.items()))
    print(f"unary calls:          {answers.total()} answered: {shares}", flush=True)


async def stream(greeter: Greeter) -> None:
    texts = [greeting.text async for greeting in greeter.repeat(Name("Ada"))]
    expect(texts, ["Hello Ada, once", "Hello Ada, twice", "Hello Ada, three times"])
    print(f"server stream:        one request, {len(texts)} answers, the last: {texts[-1]}", flush=True)

    greeting: Greeting = await greeter.greet_all(names())
    expect(greeting.text, "Hello Ada and Grace and Barbara")
    print(f"client stream:        three requests, one answer: {greeting.text}", flush=True)

    texts = [greeting.text async for greeting in greeter.chat(names())]
    expect(texts, [f"Hello {name}, how are you?" for name in ("Ada", "Grace", "Barbara")])
    print(f"bidirectional stream: three requests, {len(texts)} answers, the last: {texts[-1]}", flush=True)


async def publish(client: Client) -> None:
    try:
        await client.publish("arrivals", Name("Joan"), confirm=True)
    except PublishError as error:
        print(f"publish:              nobody to keep it for: {error}", flush=True)
    else:
        print("publish:              handled by every subscriber", flush=True)


async def names() -> AsyncIterator[Name]:
    for name in ("Ada", "Grace", "Barbara"):
        yield Name(name)


def expect(answered: object, promised: object) -> None:
    if answered != promised:
        raise SystemExit(f"expected {promised!r}, and {answered!r} was answered")


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
