"""A fresh client: prints the milliseconds from its first line to its first answer, as JSON."""

import time

started = time.perf_counter()

import json  # noqa: E402
import os  # noqa: E402

import anyio  # noqa: E402

from micro_core import Client  # noqa: E402

imported = time.perf_counter()


async def main() -> None:
    running = time.perf_counter()
    async with Client() as client:
        opened = time.perf_counter()
        await client.call(os.environ["BENCHMARKED_SERVICE"], "Greeter.Hello", {"name": "John"})
        called = time.perf_counter()
    spans = {
        "first call: imports": imported - started,
        "first call: event loop": running - imported,
        "first call: opening": opened - running,
        "first call: finding, calling": called - opened,
        "first call, all in all": called - started,
    }
    print(json.dumps({name: seconds * 1e3 for name, seconds in spans.items()}))


anyio.run(main)
