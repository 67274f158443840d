"""A process with a registry that obeys its standard input, one JSON array a line, and answers each with a line of JSON.

Its arguments are the registry's options, as key=value.
"""

import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio

from micro_core import SYNC, Change, MicroError, Node, Record
from micro_registry_mdns.registry import MdnsRegistry
from micro_registry_mdns.wire import dns, gomicro


class Party:
    def __init__(self, registry: MdnsRegistry, stack: AsyncExitStack) -> None:
        self._registry = registry
        self._stack = stack
        self._changes: AsyncIterator[Change] | None = None

    async def register(self, name: str, id_: str, address: str) -> str:
        record = Record(name=name, version="latest", nodes=(Node(id=id_, address=address, metadata={"micro": "1"}),))
        await self._registry.register(record)
        return "registered"

    async def deregister(self, name: str, id_: str) -> str:
        await self._registry.deregister(Record(name=name, version="latest", nodes=(Node(id=id_, address=""),)))
        return "deregistered"

    async def lookup(self, name: str) -> list[str]:
        return sorted(node.address for record in await self._registry.lookup(name) for node in record.nodes)

    async def services(self) -> list[str]:
        return list(await self._registry.services())

    async def watch(self, name: str) -> str:
        self._changes = await self._stack.enter_async_context(self._registry.watch(name))
        return "watching"

    async def next(self) -> list[str]:
        assert self._changes is not None
        while (change := await anext(self._changes)) == SYNC:
            pass
        return [change.kind.value, change.record.nodes[0].address]


async def main() -> None:
    options = dict(argument.split("=") for argument in sys.argv[1:])
    lists = {key: value.split(",") for key, value in options.items()}
    try:
        async with AsyncExitStack() as stack, MdnsRegistry(**lists) as registry:  # type: ignore[arg-type]
            party = Party(registry, stack)
            answer("ready")
            while line := await anyio.to_thread.run_sync(sys.stdin.readline):
                method, *arguments = json.loads(line)
                try:
                    answer(await getattr(party, method)(*arguments))
                except MicroError as error:
                    answer(str(error))
            await stack.aclose()
    except MicroError as error:
        answer(str(error))


def answer(value: object) -> None:
    print(json.dumps(value), flush=True)  # noqa: T201


def ask(service: str) -> None:
    """Ask as Go does: from a socket bound to no address, on whatever interface the route says."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.bind(("0.0.0.0", 0))
        sock.sendto(gomicro.query(service, 7), ("224.0.0.251", 5353))
        answer(dns.decode(sock.recv(65_536)).answers[0].data)


def hold_port_5353() -> None:
    """Be the program that takes the port for itself alone."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", 5353))
        answer("ready")
        sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1:] == ["hold-port"]:
        hold_port_5353()
    elif sys.argv[1:2] == ["ask"]:
        ask(sys.argv[2])
    else:
        anyio.run(main)
