"""Show what this is, in a minute, on this machine's loopback interface; exit 1 when a promise is broken.

Nothing below knows which parts are in use: every change of parts is an environment variable.
"""

import random
import socket
import sys
from contextlib import ExitStack

from program import GREETER, Broken, Program

MDNS = {"MICRO_REGISTRY": "mdns://?interface=127.0.0.1"}
MEMORY = {"MICRO_REGISTRY": "memory", "MICRO_TRANSPORT": "memory", "MICRO_BROKER": "memory", "MICRO_SELECTOR": "p2c"}


def main() -> int:
    try:
        with ExitStack() as running:
            first, second = find_each_other(running)
            kill_one(first, second)
        name_the_nodes()
        stay_in_memory()
    except Broken as error:
        print(f"\nBROKEN: {error}", flush=True)
        return 1
    print("\nEverything happened as promised.", flush=True)
    return 0


def find_each_other(running: ExitStack) -> tuple[Program, Program]:
    title("Three processes find each other over multicast DNS; nothing is configured but the interface", MDNS)
    first, second = start_greeters(running, MDNS)
    subscriber = running.enter_context(Program("subscriber", "demo_subscriber.py", environment=MDNS))
    subscriber.line_with("is ready")
    with Program("client", "demo_client.py", "2", environment=MDNS) as client:
        lines = client.succeed()
    promise("both greeters were found, and answered", says(lines, "by greeter 1", "by greeter 2"))
    promise("all three kinds of streams worked", says(lines, "server stream", "client stream", "bidirectional stream"))
    promise("the message was handled", says(lines, "handled by every subscriber"))
    promise("the subscriber got it and reached a greeter", "Hello Joan" in subscriber.line_with("got a message"))
    subscriber.stop()
    return first, second


def kill_one(first: Program, second: Program) -> None:
    title("One greeter is killed in the middle of its work", MDNS)
    with Program("client", "demo_calls_in_flight.py", environment=MDNS) as client:
        client.line_with("in flight")
        first.line_with("is working on 32 idempotent calls")
        first.kill()
        print("    demo        | has sent SIGKILL to greeter 1", flush=True)
        lines = client.succeed()
    promise("no idempotent call failed", says(lines, " 0 failed; "))
    promise("those that greeter 1 had taken were made again", not says(lines, " 0 were retried"))
    promise("a call that is not idempotent says that it may have been executed", says(lines, "executed: maybe"))
    second.stop()


def name_the_nodes() -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    static = {"MICRO_REGISTRY": f"static://?{GREETER}={','.join(addresses)}"}
    with ExitStack() as running:
        title("The same programs where multicast does not reach: everybody is told the addresses", static)
        greeters = start_greeters(running, static, *addresses)
        with Program("client", "demo_client.py", "2", environment=static) as client:
            lines = client.succeed()
        promise("both greeters answered", says(lines, "by greeter 1", "by greeter 2"))
        promise("all three kinds of streams worked", says(lines, "server stream", "client stream", "bidirectional"))
        promise("publishing says that such a registry knows no subscribers", says(lines, "nobody to keep it for"))
        for greeter in greeters:
            greeter.stop()


def stay_in_memory() -> None:
    title("The same programs inside one process: no port, no packet", MEMORY)
    with Program("one process", "demo_one_process.py", environment=MEMORY) as program:
        lines = program.succeed()
    promise("calls and streams worked", says(lines, "unary calls", "server stream", "client stream", "bidirectional"))
    promise("the message was handled", says(lines, "handled by every subscriber", "Hello Joan"))


def start_greeters(running: ExitStack, environment: dict[str, str], *addresses: str) -> list[Program]:
    """Start two, at ``addresses`` or anywhere, and return them once they are registered."""
    greeters = []
    for number, address in enumerate(addresses or ("127.0.0.1:0", "127.0.0.1:0"), start=1):
        settings = environment | {"MICRO_SERVER_ADDRESS": address}
        greeters.append(running.enter_context(Program(f"greeter {number}", "demo_greeter.py", environment=settings)))
    for greeter in greeters:
        greeter.line_with("is ready at")
    return greeters


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses, below those that systems give to clients."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe:
            if port not in ports and probe.connect_ex(("127.0.0.1", port)):
                ports.append(port)
    return ports


def title(text: str, environment: dict[str, str]) -> None:
    print(f"\n{text}\n  with {described(environment)}", flush=True)


def described(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environment.items())


def says(lines: list[str], *texts: str) -> bool:
    return all(any(text in line for line in lines) for text in texts)


def promise(text: str, kept: bool) -> None:
    if not kept:
        raise Broken(text)
    print(f"  ok: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
