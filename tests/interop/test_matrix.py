"""Every cell of the matrix: ok, or the deviation that is written down for it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, cast

import pytest

from harness.cells import APART, GO, Cell, cells, together
from harness.network import Network
from harness.peers import PROTOBUF, Peers

CALLS = "10000"
Outcomes = dict[str, dict[str, Any]]
Pairing = tuple[str, str, str]


@pytest.fixture(scope="module")
def stage(peers: Peers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Return a machine on which two servers of every kind run, in the same queue group."""
    with ExitStack() as running:
        network = Network(tmp_path_factory.mktemp("stage"), running)
        kinds = [("python", "json"), ("python", "protobuf"), *((go, "json") for go in GO)]
        servers = [
            peers.starting(peer, network, "--name", member, "--topics", served_as(peer, content), content=content)
            for peer, content in kinds
            for member in (served_as(peer, content), f"{served_as(peer, content)}-b")
        ]
        for server in servers:
            server.line_with("ready")
        yield network


def served_as(peer: str, content: str) -> str:
    """Return the name of a server; a Python one takes dataclasses or protobuf messages, a Go one both."""
    return "proto" if peer == "python" and content in PROTOBUF else peer


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, stage: Network, peers: Peers) -> dict[Pairing, Outcomes]:
    """Run all cases between each two peers whose cells are selected: one process for each, two at a time."""

    def run(pairing: Pairing) -> Outcomes:
        client, server, content = pairing
        name = served_as(server, content)
        flags = ("--name", name, "--member", f"{name}-b", "--topics", name, "--calls", CALLS)
        program = peers.client(client, stage, ",".join(together(content)), *flags, content=content)
        ended = {line["case"]: line for line in program.outcomes()}
        assert ended, program.log_end()
        return ended

    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    selected = [cast("Cell", test.callspec.params["cell"]) for test in tests if test.originalname == "test_cell"]
    pairings = list(dict.fromkeys(pairing_of(cell) for cell in selected))
    with ThreadPoolExecutor(2) as two:
        return dict(zip(pairings, two.map(run, pairings), strict=True))


def pairing_of(cell: Cell) -> Pairing:
    return cell.client, cell.server, cell.content


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell.case not in APART], ids=lambda cell: cell.id)
def test_cell(cell: Cell, outcomes: dict[Pairing, Outcomes]) -> None:
    judge(cell, outcomes[pairing_of(cell)][cell.case])


def judge(cell: Cell, outcome: dict[str, Any]) -> None:
    """See that a cell ended as it is written down."""
    if cell.deviation:
        assert not outcome["ok"], f"this works now; take it out of the deviations: {cell.deviation}"
    else:
        assert outcome["ok"], outcome.get("detail")


@pytest.mark.parametrize(
    "cell",
    [
        *(cell for cell in cells() if cell.case in APART),
        # The deviations are there between Go peers too.
        Cell("retry_on_dead_node", "v1", "v1", "json"),
        Cell("retry_on_dead_node", "v5", "v5", "json"),
    ],
    ids=lambda cell: cell.id,
)
def test_cell_in_which_servers_come_and_go(cell: Cell, peers: Peers, network: Network) -> None:
    client, name = None, "guest"
    if cell.case == "watch_add_and_remove":
        client = peers.client(cell.client, network, cell.case, "--name", name)
        client.event("watching")
        server = peers.server(cell.server, network, "--name", name)
        client.go_on()
        client.event("create")
        client.go_on()
        server.stop()
        client.event("delete")
    else:
        servers = [peers.server(cell.server, network, "--name", name) for _ in range(2)]
        client = peers.client(cell.client, network, cell.case, "--name", name)
        client.event("kill")
        servers[0].kill()
    client.go_on()
    (outcome,) = client.outcomes()
    judge(cell, outcome)


GO_WITH_GO = [
    Cell("server_stream_fast", "v4", "v4", "json"),
    Cell("server_stream_fast", "v5", "v5", "json"),
    Cell("debug_health", "v5", "v5", "json"),
    Cell("publish_broadcast", "v5", "v4", "json"),
    Cell("deadline_is_propagated", "v5", "v5", "json"),
    Cell("publish_via_rpc_port", "v5", "v5", "json"),
    Cell("full_duplex", "v1", "v1", "json"),
]


@pytest.mark.parametrize("cell", GO_WITH_GO, ids=lambda cell: cell.id)
def test_a_deviation_is_there_between_go_peers_too(cell: Cell, stage: Network, peers: Peers) -> None:
    assert cell.deviation
    client = peers.client(cell.client, stage, cell.case, "--name", cell.server, "--topics", cell.server)
    (outcome,) = client.outcomes()
    judge(cell, outcome)
