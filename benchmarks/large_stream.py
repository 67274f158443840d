"""One large stream over HTTP/2 and TLS between two processes: how long it takes, and how their memory grows.

`python large_stream.py MIB up|down [--pause SECONDS] [--backend asyncio|uvloop|trio]` prints a line of JSON. TLS is set
by variables (docs/tls.md). A reader that pauses reads nothing for so long, again and again: so its peer has to wait.
"""

import argparse
import gc
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from micro_core import Client, Service

PIECE = b"x" * (64 << 10)
PAUSE_EVERY = 512
"""Pieces between two pauses: 32 MiB."""
SETTINGS = {"MICRO_REGISTRY": "static://?large=127.0.0.1:1", "MICRO_TRANSPORT": "http://?protocols=h2"}
NAME = "large"


class Growth:
    """By how much this process's memory has been larger than now (proc(5): clear_refs, VmHWM)."""

    def __init__(self) -> None:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _peak()

    @property
    def mib(self) -> float:
        return (_peak() - self._before) / 1024


def _peak() -> int:
    """Return the largest resident set since the last reset, in KiB."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


async def read(pieces: AsyncIterator[bytes], count: int, pause: float) -> None:
    """Take so many pieces, with pauses."""
    for number in range(count):
        assert len(await anext(pieces)) == len(PIECE)
        if pause and number % PAUSE_EVERY == 0:
            await anyio.sleep(pause)


def serve(pause: float, backend: str) -> None:
    service = Service(NAME, address="127.0.0.1:0", linger=0)

    @service.handler
    class Large:
        async def take(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            count, growth = int(await anext(pieces)), Growth()
            await read(pieces, count, pause)
            yield b"%f" % growth.mib

        async def give(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            count, growth = int(await anext(pieces)), Growth()
            for _ in range(count):
                yield PIECE
            yield b"%f" % growth.mib

    @service.after_start
    def say_where() -> None:
        print(service.address, flush=True)

    async def run() -> None:
        async with service:
            await anyio.to_thread.run_sync(sys.stdin.read)

    run_on(backend, run)


async def call(address: str, way: str, count: int, pause: float) -> None:
    endpoint = {"up": "Large.Take", "down": "Large.Give"}[way]
    async with Client() as client, client.stream(NAME, endpoint, bytes, address=address) as stream:
        await stream.send(b"%d" % count)
        growth, started = Growth(), time.perf_counter()
        if way == "up":
            for _ in range(count):
                await stream.send(PIECE)
        else:
            await read(stream, count, pause)
        server = float(await stream.receive())
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "client": growth.mib, "server": server}))


def run_on(backend: str, function: object, *arguments: object) -> None:
    options = {"trio": {}, "asyncio": {"use_uvloop": False}, "uvloop": {"use_uvloop": True}}[backend]
    name = "trio" if backend == "trio" else "asyncio"
    anyio.run(function, *arguments, backend=name, backend_options=options)  # type: ignore[arg-type]


@contextmanager
def serving(options: list[str]) -> Iterator[str]:
    """Run this program as the server; yield its address."""
    command = [sys.executable, __file__, "0", "serve", *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate(timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mib", type=int)
    parser.add_argument("way", choices=["up", "down", "serve"])
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--backend", choices=["asyncio", "uvloop", "trio"], default="uvloop")
    given = parser.parse_args()
    os.environ |= SETTINGS
    if given.way == "serve":
        serve(given.pause, given.backend)
        return
    with serving(["--pause", str(given.pause), "--backend", given.backend]) as address:
        run_on(given.backend, call, address, given.way, (given.mib << 20) // len(PIECE), given.pause)


if __name__ == "__main__":
    main()
