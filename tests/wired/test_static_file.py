"""Messages by a static file alone: a worker in a process of its own, which nothing but the file knows."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from micro_core import Client, PublishError

pytestmark = pytest.mark.anyio

SUBSCRIBERS = """
[[service]]
name = "micro.http.broker"
version = "packing"
nodes = [{ address = "ADDRESS", metadata = { broker = "http", topic = "orders", micro = "1" } }]

[[service]]
name = "micro.http.broker"
nodes = [
    { id = "all", address = "ADDRESS", metadata = { broker = "http", topic = "orders", micro = "1" } },
    { id = "none", address = "ADDRESS", metadata = { broker = "http", topic = "refunds", micro = "1" } },
    { id = "not-go", address = "ADDRESS", metadata = { broker = "http", topic = "returns" } },
]
version = "ff.http.broadcast"
"""


@pytest.fixture
def address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def worker(start: Any, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a worker whose broker listens where the file says; what this process opens reads the same file."""
    path = tmp_path / "nodes.toml"
    path.write_text(SUBSCRIBERS.replace("ADDRESS", address), "utf-8")
    monkeypatch.setenv("MICRO_REGISTRY", f"static://{path}")
    return start("pubsub/worker.py", "--broker_address", address)


async def test_a_listed_queue_and_a_listed_subscriber_both_handle_each_message(worker: Any) -> None:
    async with Client() as client:
        for number in range(3):
            await client.publish("orders", {"number": number, "item": "tea"}, confirm=True)
    assert sorted(worker.stop().splitlines()[:6]) == [
        *(f"packing order {number}: tea" for number in range(3)),
        *(f"seen order {number}" for number in range(3)),
    ]


@pytest.mark.parametrize(("topic", "node"), [("refunds", "none"), ("returns", "not-go")])
async def test_confirming_names_the_listed_node_that_has_no_such_subscription(
    worker: Any, topic: str, node: str
) -> None:
    async with Client() as client:
        with pytest.raises(PublishError) as failure:
            await client.publish(topic, {"number": 1, "item": "tea"}, confirm=True)
    assert failure.value.failed == (node,)
