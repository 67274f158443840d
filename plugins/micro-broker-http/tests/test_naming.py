"""How subscriptions appear in the registry."""

import pytest

from micro_broker_http.subscribing.address import bind, bound_address
from micro_broker_http.wire.envelope import Form
from micro_broker_http.wire.naming import BROADCAST, Subscriber, node_id, records, subscribers
from micro_core import ConfigError, Node, Record

UNIQUE = "0123456789"


def test_a_subscription_has_one_node_under_both_names():
    old, new = records(id="t-1", topic="t", queue="", address="127.0.0.1:4")
    assert (old.name, new.name) == ("go.micro.http.broker", "micro.http.broker")
    assert old.nodes == new.nodes
    assert old.version == BROADCAST
    metadata = {"broker": "http", "micro": "1", "secure": "false", "subscription": "t-1", "topic": "t"}
    assert dict(old.nodes[0].metadata) == metadata
    assert [found.query for found in subscribers(old)] == [{"id": "t-1"}]


def test_the_queue_is_the_version():
    assert {record.version for record in records(id="t-1", topic="t", queue="q", address="127.0.0.1:4")} == {"q"}


@pytest.mark.parametrize("topic", ["t", "go.micro.topic.foo", "x" * 52, "x" * 63 + "." + "y" * 52, "grüße", "a b"])
def test_a_node_id_fits_the_labels_of_dns(topic):
    assert node_id(topic, UNIQUE) == f"{topic}-{UNIQUE}"
    assert max(len(label) for label in node_id(topic, UNIQUE).encode().split(b".")) <= 63


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("x" * 53, "last dot-separated part may have 52 bytes"),
        ("ü" * 27, "last dot-separated part may have 52 bytes"),
        ("x" * 64 + ".y", "every other 63"),
        (".".join(["x" * 50] * 5), "255 bytes"),
        ("a..b", "empty"),
        (".a", "empty"),
        ("a.", "empty"),
        ("", "without control characters"),
        ("a\nb", "without control characters"),
    ],
)
def test_a_topic_that_cannot_be_a_dns_name_is_refused_with_the_reason(topic, reason):
    with pytest.raises(ConfigError, match=reason):
        node_id(topic, UNIQUE)


def test_nodes_of_go_peers_and_ours_are_told_apart():
    metadata = {"broker": "http", "secure": "false", "topic": "t"}
    nodes = (
        Node(id="go", address="10.0.0.1:1", metadata=metadata),
        Node(id="ours", address="10.0.0.2:1", metadata={**metadata, "micro": "1"}),
        Node(id="newer", address="10.0.0.2:1", metadata={**metadata, "micro": "12"}),
        Node(id="odd", address="10.0.0.2:1", metadata={**metadata, "micro": "²"}),
        Node(id="secure", address="10.0.0.3:1", metadata={**metadata, "secure": "true"}),
    )
    found = subscribers(Record(name=Form.V2.value, version="q", nodes=nodes))
    assert [subscriber.ours for subscriber in found] == [False, True, True, False, False]
    assert found[-1].url == "https://10.0.0.3:1"
    assert found[0] == Subscriber(
        id="go",
        topic="t",
        queue="q",
        address="10.0.0.1:1",
        secure=False,
        ours=False,
        form=Form.V2,
        returns=False,
        subscription="go",
    )
    assert found[1].query == {"topic": "t", "queue": "q"}


def test_nodes_of_other_brokers_are_left_out():
    nodes = (
        Node(id="nats", address="10.0.0.1:1", metadata={"broker": "nats", "topic": "t"}),
        Node(id="none", address="10.0.0.1:1"),
    )
    assert subscribers(Record(name=Form.V1.value, version="q", nodes=nodes)) == []


@pytest.mark.parametrize(
    "address", ["nonsense", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "::1:80", "192.0.2.1:0", "[::zz]:1"]
)
@pytest.mark.anyio
async def test_an_address_that_cannot_be_bound_is_named(address):
    with pytest.raises(ConfigError, match="broker address"):
        await bind(address)


@pytest.mark.anyio
async def test_a_used_port_cannot_be_bound():
    with await bind("127.0.0.1:0") as first, pytest.raises(ConfigError, match="in use"):
        await bind(f"127.0.0.1:{first.getsockname()[1]}")


@pytest.mark.anyio
async def test_the_bound_address_is_told_as_text():
    with await bind("127.0.0.1:0") as listening:
        assert bound_address(listening) == f"127.0.0.1:{listening.getsockname()[1]}"
    with await bind("[::1]:0") as listening:
        assert bound_address(listening) == f"[::1]:{listening.getsockname()[1]}"
