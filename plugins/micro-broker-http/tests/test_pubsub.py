"""Messages from a publisher to its subscribers, through real sockets."""

import base64
import json

import anyio
import httpx
import pytest

from micro_broker_http import HttpBroker
from micro_broker_http.envelope import Form
from micro_core import Message, PublishError, Subscription
from micro_core.builtin.memory_network import MemoryNetwork
from micro_core.builtin.registry_memory import MemoryRegistry

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry():
    return MemoryRegistry(network=MemoryNetwork())


class Collector:
    """A handler that keeps what it gets and tells when there is enough."""

    def __init__(self):
        self.got = []
        self._more = anyio.Event()

    async def __call__(self, topic, message):
        self.got.append((topic, message))
        self._more.set()
        self._more = anyio.Event()

    async def wait_for(self, count):
        with anyio.fail_after(20):
            while len(self.got) < count:
                await self._more.wait()
        return self.got

    @property
    def bodies(self):
        return [message.body for _, message in self.got]


def message(body, **headers):
    return Message({b"Content-Type": b"application/json"}, body)


async def test_a_broker_publishes_to_itself_in_order(registry):
    collector = Collector()
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="greetings", handler=collector)):
            for number in range(1000):
                await broker.publish("greetings", message(b"%d" % number))
            await broker.flush()
    assert collector.bodies == [b"%d" % number for number in range(1000)]
    assert collector.got[0] == ("greetings", message(b"0"))


async def test_another_broker_receives_and_confirms(registry):
    collector = Collector()
    async with HttpBroker(registry) as publisher, HttpBroker(registry) as subscriber:
        async with subscriber.subscribe(Subscription(topic="greetings", handler=collector)):
            await publisher.publish("greetings", message(b"hello"), confirm=True)
            assert collector.bodies == [b"hello"]
            assert publisher.stats().waiting == 0


async def test_without_subscribers_publishing_says_what_the_registry_knows(registry):
    async with HttpBroker(registry) as broker:
        with pytest.raises(PublishError, match="no subscriber of topic 'nobody' is known: registry 'memory' knows no"):
            await broker.publish("nobody", message(b""))
        async with broker.subscribe(Subscription(topic="other", handler=Collector())):
            with pytest.raises(PublishError, match="knows subscribers of 'other' only"):
                await broker.publish("nobody", message(b""))


async def test_a_queue_group_shares_and_the_rest_get_all(registry):
    first, second, everything = Collector(), Collector(), Collector()
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
async def test_messages_of_go_peers_arrive_in_both_forms(registry, form):
    collector = Collector()
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="greetings", handler=collector)):
            [record] = await registry.lookup(form.value)
            [node] = record.nodes
            topic = ":topic" if form is Form.V1 else "Micro-Topic"
            body = {"Header": {topic: "greetings", "Micro-ID": "7"}, "Body": base64.b64encode(b"hi").decode()}
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(
                    f"http://{node.address}{form.path}", params={"id": node.id}, content=json.dumps(body)
                )
    assert (answer.status_code, answer.content) == (200, b"")
    assert collector.got == [("greetings", Message({b"Micro-Topic": b"greetings", b"Micro-Id": b"7"}, b"hi"))]


async def test_a_burst_loses_nothing(registry):
    collector = Collector()
    async with HttpBroker(registry) as publisher, HttpBroker(registry) as subscriber:
        async with subscriber.subscribe(Subscription(topic="burst", handler=collector)):
            started = anyio.current_time()
            for number in range(20_000):
                await publisher.publish("burst", message(b"%d" % number))
            await publisher.flush()
            print(20_000 / (anyio.current_time() - started), "messages/s")
    assert collector.bodies == [b"%d" % number for number in range(20_000)]
