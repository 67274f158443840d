"""The matrix: who calls whom with what, and where a defect of Go Micro's stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

GO = {"v1": "v1.18.0", "v4": "v4.10.2", "v5": "v5.0.0"}
PAIRS = [("python", go) for go in GO] + [(go, "python") for go in GO] + [("python", "python")]
FRAMED = ("json", "protobuf", "json-rpc", "proto-rpc")
TYPED = ("json", "protobuf")
CASES = {
    "empty_unary": FRAMED,
    "large_unary": FRAMED,
    "unary_1MiB": FRAMED,
    "concurrent_unary": FRAMED,
    "server_stream": FRAMED,
    "server_stream_fast": FRAMED,
    "client_stream": FRAMED,
    "ping_pong": FRAMED,
    "full_duplex": TYPED,
    "empty_stream": FRAMED,
    "cancel_after_first_response": FRAMED,
    "error_code_and_detail": FRAMED,
    "error_text_special": FRAMED,
    "error_plain_text": FRAMED,
    "error_text_percent": FRAMED,
    "unknown_endpoint": FRAMED,
    "publish_broadcast": TYPED,
    "publish_queue_group": TYPED,
    "publish_via_rpc_port": TYPED,
    "timeout_on_sleeping_server": ("json",),
    "deadline_is_propagated": ("json",),
    "custom_metadata": ("json",),
    "metadata_case_folding": ("json",),
    "unknown_service": ("json",),
    "unsupported_content_type": ("json",),
    "raw_bytes": ("json",),
    "plain_struct": ("json",),
    "debug_health": ("json",),
    "discover_and_list": ("json",),
    "watch_add_and_remove": ("json",),
    "retry_on_dead_node": ("json",),
    "soak": ("json",),
    "channel_soak": ("json",),
}
"""Every case with the codecs in which it says something of its own."""
APART = ("watch_add_and_remove", "retry_on_dead_node")
"""Cases in which the test itself starts and ends servers."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One case between two peers in one codec."""

    case: str
    client: str
    server: str
    content: str

    @property
    def id(self) -> str:
        """The cell's name in a test run."""
        return f"{self.client}-{self.server}-{self.content}-{self.case}"

    @property
    def deviation(self) -> str:
        """Why it cannot work, or nothing."""
        return next((each.reason for each in DEVIATIONS if each.covers(self)), "")


@dataclass(frozen=True, slots=True)
class Deviation:
    """Cells that a defect of Go Micro's keeps from working, whoever the other side is."""

    cases: tuple[str, ...]
    reason: str
    clients: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    def covers(self, cell: Cell) -> bool:
        """Tell whether a cell is concerned."""
        return (
            cell.case in self.cases
            and (not self.clients or cell.client in self.clients)
            and (not self.servers or cell.server in self.servers)
        )


DEVIATIONS = [
    Deviation(
        ("full_duplex",),
        "a peer of v1.18 that waits for a message cannot send one meanwhile: one lock serves both (put right in v2.0)",
        clients=("v1",),
    ),
    Deviation(
        ("full_duplex",),
        "the same lock in the server",
        servers=("v1",),
    ),
    Deviation(
        ("server_stream_fast",),
        "a server of v4.10 and v5.0 overwrites the messages of a stream that are still to be sent; with pauses between "
        "them (server_stream) or one message outstanding (ping_pong) nothing is lost",
        servers=("v4", "v5"),
    ),
    Deviation(
        ("debug_health",),
        "services have no Debug handler from v4.8 on",
        servers=("v4", "v5"),
    ),
    Deviation(
        ("publish_broadcast", "publish_queue_group", "publish_via_rpc_port"),
        "a server of v4.10 subscribes at the broker and forgets to tell its own router: no subscriber of a service is "
        "ever called (put right in v5.0)",
        servers=("v4",),
    ),
    Deviation(
        ("deadline_is_propagated",),
        "a client from v4.10 on sends the timeout of one attempt, 5 s, in place of the caller's",
        clients=("v4", "v5"),
    ),
    Deviation(
        ("publish_via_rpc_port",),
        "a client from v2.1 on does not send the topic with a call",
        clients=("v4", "v5"),
    ),
    Deviation(
        ("retry_on_dead_node",),
        "a client up to v4.9 may choose the dead node again: it keeps no account of failures",
        clients=("v1",),
    ),
    Deviation(
        ("retry_on_dead_node",),
        "a client from v4.10 on tries again only after a 408, not after a refused connection",
        clients=("v4", "v5"),
    ),
]


def cells() -> Iterator[Cell]:
    """Yield every cell, in the order in which they are run."""
    for content in FRAMED:
        for client, server in PAIRS:
            for case, contents in CASES.items():
                if content in contents:
                    yield Cell(case, client, server, content)


def together(content: str) -> list[str]:
    """Return the cases that one client process runs one after another."""
    return [case for case, contents in CASES.items() if content in contents and case not in APART]
