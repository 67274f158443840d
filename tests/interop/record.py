"""Record what real Go Micro programs say, as fixtures for tests that need no Go.

Usage: PYTHONPATH=python python record.py FOLDER, with the programs that python/harness/build.py made.
Writes tests/wired/golden/*.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.cells import GO
from harness.network import Network
from harness.peers import CONTENT_TYPES

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "wired" / "golden"
CALLS = [
    ("empty_unary", "json"),
    ("error_code_and_detail", "json"),
    ("server_stream", "json"),
    ("ping_pong", "json"),
    ("empty_unary", "protobuf"),
    ("server_stream", "protobuf"),
    ("error_code_and_detail", "json-rpc"),
    ("error_code_and_detail", "proto-rpc"),
]
AS_DEVBOX = ("unshare", "--uts", "sh", "-c", 'hostname devbox; exec "$0" "$@"')
"""Go puts the name of its machine into every record; this one is nobody's."""
MDNS = 5353
ANNOUNCING_SECONDS = 2.0
Lines = list[dict[str, Any]]


class Recorder:
    """A Go server called golden, a client, and somebody who listens."""

    def __init__(self, network: Network, program: str) -> None:
        self._network = network
        self._program = program

    def sniffed(self, run: Any) -> Lines:
        """Return what went over the wire while ``run`` ran."""
        sniffer = self._network.start(sys.executable, str(HERE / "python" / "harness" / "sniff.py"))
        sniffer.line_with("ready")
        run()
        return sniffer.closed()

    def serve(self) -> Any:
        """Start the server."""
        server = self._network.start(*AS_DEVBOX, self._program, "--name", "golden", "--topics", "golden")
        server.line_with("ready")
        time.sleep(ANNOUNCING_SECONDS)
        return server

    def call(self, case: str, content: str = "json") -> None:
        """Run the client."""
        flags = ("--role", "client", "--name", "golden", "--case", case, "--content-type", CONTENT_TYPES[content])
        self._network.start(*AS_DEVBOX, self._program, *flags).outcomes()

    def conversation(self, case: str, content: str) -> dict[str, str]:
        """Run the client and return what it asked and was answered."""
        return conversations(self.sniffed(lambda: self.call(case, content)), b"POST / ")[0]


def datagrams(lines: Lines) -> list[str]:
    """Return the multicast DNS packets, each once, in hex."""
    packets = [line["data"] for line in lines if "sequence" not in line and MDNS in (line["from"], line["to"])]
    return list(dict.fromkeys(packets))


def conversations(lines: Lines, start: bytes) -> list[dict[str, str]]:
    """Return what was asked and answered on each TCP connection whose first bytes are ``start``."""
    sides: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
    for line in lines:
        if "sequence" in line:
            sides[line["from"], line["to"]].setdefault(line["sequence"], bytes.fromhex(line["data"]))
    whole = {ports: b"".join(data for _, data in sorted(parts.items())) for ports, parts in sides.items()}
    return [
        {"request": data.decode("latin-1"), "response": whole.get((to, source), b"").decode("latin-1")}
        for (source, to), data in whole.items()
        if data.startswith(start)
    ]


def record(program: str, made_by: str) -> dict[str, Any]:
    """Return everything that one line of Go Micro says."""
    with ExitStack() as stack, tempfile.TemporaryDirectory() as logs:
        recorder = Recorder(Network(Path(logs), stack), program)
        servers: list[Any] = []
        announced = recorder.sniffed(lambda: servers.append(recorder.serve()))
        asked = recorder.sniffed(lambda: recorder.call("discover_and_list"))
        calls = {f"{case}-{content}": recorder.conversation(case, content) for case, content in CALLS}
        published = recorder.sniffed(lambda: recorder.call("publish_broadcast"))
        gone = recorder.sniffed(servers[0].stop)
    posts = conversations(published, b"POST /_sub?id=") or conversations(published, b"POST /?id=")
    first, _, _ = posts[0]["request"].partition("POST /")[2].partition("POST /")
    return {
        "made_by": f"go-micro {made_by}",
        "announced": datagrams(announced),
        "asked": datagrams(asked),
        "gone": datagrams(gone),
        "calls": calls,
        "post": f"POST /{first}",
    }


def main(programs: str) -> None:
    """Record every line."""
    GOLDEN.mkdir(exist_ok=True)
    for line, version in GO.items():
        fixture = record(f"{programs}/{line}", version)
        (GOLDEN / f"{line}.json").write_text(json.dumps(fixture, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
