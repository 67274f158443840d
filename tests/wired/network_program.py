"""Run in a network namespace of its own: a service on all interfaces while networks come, change and go."""

from __future__ import annotations

import logging
import subprocess
import sys

import anyio

from micro_core import Client, Service
from micro_registry_mdns.registry import MdnsRegistry

PATIENCE = 20.0


class OtherHost:
    """Another network namespace, held by a process."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-ec", "ip link set lo up; echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()

    def connect(self) -> None:
        """Lay a wire between this host, 10.77.0.1, and the other, 10.77.0.2; neither has a default route."""
        shell(f"ip link add out type veth peer name in netns {self._holder.pid}")
        shell("ip address add 10.77.0.1/24 dev out; ip link set out up")
        subprocess.run([*self._enter, "sh", "-ec", "ip address add 10.77.0.2/24 dev in; ip link set in up"], check=True)

    async def call(self) -> None:
        """Have a client over there look the service up and call it."""
        await anyio.run_process([*self._enter, sys.executable, __file__, "call"], stdout=None, stderr=None)

    def close(self) -> None:
        """End it."""
        self._holder.communicate()

    @property
    def _enter(self) -> list[str]:
        return ["nsenter", f"--target={self._holder.pid}", "--net"]


def shell(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True)


def say(*words: str) -> None:
    sys.stdout.write(f"{' '.join(words)}\n")
    sys.stdout.flush()


async def until_node_is_at(service: Service, host: str) -> None:
    with anyio.fail_after(PATIENCE):
        while not service.node.address.startswith(f"{host}:"):  # noqa: ASYNC110 - nobody tells when it changes
            await anyio.sleep(0.02)
    say("address", service.node.address)


async def serve() -> None:
    """Serve on all interfaces: first without any, then on one, then under another address."""
    shell("ip link set lo up")
    service = Service("greeter", registry="mdns", linger=0)

    @service.handler(name="Greeter")
    async def hello(name: str) -> str:
        return f"Hello {name}"

    async with service:
        say("address", service.node.address)
        other = OtherHost()
        other.connect()
        await until_node_is_at(service, "10.77.0.1")
        await other.call()
        shell("ip address del 10.77.0.1/24 dev out; ip address add 10.77.0.9/24 dev out")
        await until_node_is_at(service, "10.77.0.9")
        await other.call()
        other.close()


async def call() -> None:
    """Call the service from another host, which knows nothing of it but what multicast DNS tells."""
    async with MdnsRegistry() as registry, Client(registry="mdns") as client:
        with anyio.fail_after(PATIENCE):
            records = await registry.lookup("greeter")
            while not records:
                records = await registry.lookup("greeter")
            say("found", records[0].nodes[0].address)
            say("reply", await client.call("greeter", "Greeter.Hello", "Ada", response_type=str, timeout=5))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="log %(levelname)s %(message)s", stream=sys.stdout)
    anyio.run(serve if sys.argv[1] == "serve" else call, backend=sys.argv[2] if len(sys.argv) > 2 else "asyncio")
