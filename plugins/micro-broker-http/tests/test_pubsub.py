"""Messages from a publisher to its subscribers, through real sockets."""

import base64
import json

import httpx
import pytest

from micro_broker_http import HttpBroker
from micro_broker_http.wire.envelope import Form
from micro_core import Closed, Message, PublishError, Subscription

pytestmark = pytest.mark.anyio


async def test_a_broker_publishes_to_itself_in_order(registry, collector, message):
    received = collector()
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="greetings", handler=received)):
            for number in range(1000):
                await broker.publish("greetings", message(b"%d" % number))
            await broker.flush()
    assert received.bodies == [b"%d" % number for number in range(1000)]
    assert received.got[0] == ("greetings", message(b"0"))


async def test_an_address_to_register_may_be_a_name(registry):
    async with HttpBroker(registry, advertise="broker.example:80") as broker:
        assert broker.address == "broker.example:80"


async def test_what_is_bound_to_all_interfaces_is_registered_with_a_literal_address(registry):
    async with HttpBroker(registry, address=":0") as everywhere, HttpBroker(registry, advertise="10.0.0.5") as told:
        assert not everywhere.address.startswith(("0.0.0.0", "[::]"))
        assert told.address.startswith("10.0.0.5:")


async def test_a_broker_that_was_never_opened_has_nothing_and_does_nothing(registry, message):
    broker = HttpBroker(registry)
    assert await broker.flush() == 0
    assert broker.stats().waiting == 0
    with pytest.raises(Closed, match="not open"):
        await broker.publish("greetings", message(b""))
    await broker.aclose()


async def test_another_broker_receives_and_confirms(registry, collector, message):
    received = collector()
    async with HttpBroker(registry) as publisher, HttpBroker(registry) as subscriber:
        async with subscriber.subscribe(Subscription(topic="greetings", handler=received)):
            await publisher.publish("greetings", message(b"hello"), confirm=True)
            assert received.bodies == [b"hello"]
            assert publisher.stats().waiting == 0


async def test_without_subscribers_publishing_says_what_the_registry_knows(registry, collector, message):
    async with HttpBroker(registry) as broker:
        with pytest.raises(PublishError, match="no subscriber of topic 'nobody' is known: registry 'memory' knows no"):
            await broker.publish("nobody", message(b""))
        async with broker.subscribe(Subscription(topic="other", handler=collector())):
            with pytest.raises(PublishError, match="knows subscribers of 'other' only"):
                await broker.publish("nobody", message(b""))


async def test_a_queue_group_shares_and_the_rest_get_all(registry, collector, message):
    first, second, everything = collector(), collector(), collector()
    async with HttpBroker(registry) as broker, HttpBroker(registry) as other:
        async with (
            broker.subscribe(Subscription(topic="work", handler=first, queue="q")),
            other.subscribe(Subscription(topic="work", handler=second, queue="q")),
            other.subscribe(Subscription(topic="work", handler=everything)),
        ):
            for number in range(100):
                await broker.publish("work", message(b"%d" % number), confirm=True)
    assert len(first.got) + len(second.got) == 100
    assert first.got
    assert second.got
    assert len(everything.got) == 100


@pytest.mark.parametrize("form", Form)
async def test_messages_of_go_peers_arrive_in_both_forms(registry, collector, message, form):
    received = collector()
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="greetings", handler=received)):
            [record] = await registry.lookup(form.value)
            [node] = record.nodes
            topic = ":topic" if form is Form.V1 else "Micro-Topic"
            body = {"Header": {topic: "greetings", "Micro-ID": "7"}, "Body": base64.b64encode(b"hi").decode()}
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(
                    f"http://{node.address}{form.path}", params={"id": node.id}, content=json.dumps(body)
                )
    assert (answer.status_code, answer.content) == (200, b"")
    assert received.got == [("greetings", Message({b"Micro-Topic": b"greetings", b"Micro-Id": b"7"}, b"hi"))]


async def test_a_burst_loses_nothing(registry, collector, message):
    received = collector()
    async with HttpBroker(registry) as publisher, HttpBroker(registry) as subscriber:
        async with subscriber.subscribe(Subscription(topic="burst", handler=received)):
            for number in range(20_000):
                await publisher.publish("burst", message(b"%d" % number))
            await publisher.flush()
    assert received.bodies == [b"%d" % number for number in range(20_000)]
