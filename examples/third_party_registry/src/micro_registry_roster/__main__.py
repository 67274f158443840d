"""Run the server: ``python -m micro_registry_roster 127.0.0.1:7400``; it prints the address that it is bound to."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import anyio
from anyio.abc import Listener, SocketAttribute
from anyio.streams.tls import TLSListener

from micro_core import Tls

from .server import Roster

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until a signal comes. The secret is in the environment, where no list of processes shows it."""
    parser = argparse.ArgumentParser(prog="micro_registry_roster", description=__doc__)
    parser.add_argument("address", help="host:port, port 0 for any")
    parser.add_argument("--cert", default="", help="the file with the certificate, to speak TLS")
    parser.add_argument("--key", default="", help="the file with its key")
    asked = parser.parse_args(argv)
    try:
        anyio.run(serve, asked.address, Tls(cert=asked.cert, key=asked.key), os.environ.get("ROSTER_SECRET", ""))
    except KeyboardInterrupt:
        pass


async def serve(address: str, tls: Tls, secret: str) -> None:
    """Serve on ``address``."""
    host, _, port = address.rpartition(":")
    roster = Roster(secret)
    plain = await anyio.create_tcp_listener(local_host=host, local_port=int(port), reuse_port=False)
    bound = plain.extra(SocketAttribute.local_port)
    listener: Listener = plain  # type: ignore[type-arg]
    if tls.listens:
        listener = TLSListener(plain, tls.for_server(()), standard_compatible=False)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(roster.sweep)
        print(f"{host}:{bound}", flush=True)
        await listener.serve(roster.serve)


if __name__ == "__main__":
    main()
