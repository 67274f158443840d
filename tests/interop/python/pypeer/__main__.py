"""One program with named cases, as a server or as a client; the flags are those of go/peer/main.go."""

import argparse

import anyio

from pypeer.client import Peer, run_cases
from pypeer.server import announce, make_service


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["server", "client"], default="server")
    parser.add_argument("--name", default="interop")
    parser.add_argument("--address", default="127.0.0.1:0")
    parser.add_argument("--topics", default="")
    parser.add_argument("--case", default="")
    parser.add_argument("--target", default="")
    parser.add_argument("--member", default="")
    parser.add_argument("--content-type", default="application/json")
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--nodes", type=int, default=1)
    given = parser.parse_args()
    topics = given.topics or given.name
    if given.role == "server":
        if given.nodes > 1:
            anyio.run(announce, given.name, given.address, given.nodes)
        make_service(given.name, topics, given.address).run([])
        return
    peer = Peer(given.name, topics, given.member, given.content_type, given.calls, given.target)
    anyio.run(run_cases, peer, given.case.split(","), backend_options={"use_uvloop": True})


if __name__ == "__main__":
    main()
