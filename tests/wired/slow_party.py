"""A program of the tests on a slow wire: a service that subscribes, or somebody who calls, publishes or lists once.

``serve NAME VERSION`` serves until its standard input ends, and prints what it is told; ``call NAME [VERSION]``,
``publish TOPIC`` and ``list`` do that once, as a process that has just started, and print what came of it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import anyio

from micro_core import Client, MicroError, Service, filters


async def serve(name: str, version: str) -> None:
    """Serve and subscribe until standard input ends."""
    service = Service(name, version=version, linger=0)

    @service.handler
    async def version_of() -> str:
        return version

    @service.subscriber("news")
    async def news(text: str) -> None:
        say(f"heard {text}")

    async with service:
        say("ready")
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)


async def call(name: str, version: str = "") -> None:
    """Call once."""
    wanted = [filters.version(version)] if version else []
    async with Client() as client:
        say(await client.call(name, f"{name.capitalize()}.VersionOf", None, str, filters=wanted))


async def publish(topic: str) -> None:
    """Publish one message and wait until everybody has handled it."""
    async with Client() as client:
        await client.publish(topic, "today", confirm=True)
        say("published")


async def list_services() -> None:
    """Print all services and their nodes."""
    from micro_core.testing import make_part

    async with make_part("registry", "mdns") as registry:
        for name in await registry.services():
            found = [f"{record.version}x{len(record.nodes)}" for record in await registry.lookup(name)]
            say(f"{name} {' '.join(found)}")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201


WORK: dict[str, Callable[..., Awaitable[None]]] = {
    "serve": serve,
    "call": call,
    "publish": publish,
    "list": list_services,
}

if __name__ == "__main__":
    work, *arguments = sys.argv[1:]
    try:
        anyio.run(WORK[work], *arguments)
    except MicroError as error:
        say(f"{type(error).__name__}: {error}")
