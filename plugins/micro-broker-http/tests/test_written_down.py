"""Subscribers that a static file lists: found by topic and queue, and never taken to have handled what they did not."""

import re
import tomllib
from pathlib import Path

import anyio
import pytest

from micro_broker_http import HttpBroker
from micro_broker_http.wire.envelope import Form
from micro_core import PublishError, Subscription
from micro_core.builtin.registry_static import StaticRegistry, read_file

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parent.parent.parent.parent / "docs" / "registry-static.md"
OURS = '{ broker = "http", topic = "t", micro = "1" }'


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a file with one record of the http broker and returns its registry."""

    def write(address, metadata=OURS, queue="ff.http.broadcast"):
        path = tmp_path / "nodes.toml"
        path.write_text(
            f'[[service]]\nname = "micro.http.broker"\nversion = "{queue}"\n'
            f'nodes = [{{ address = "{address}", metadata = {metadata} }}]\n'
        )
        return StaticRegistry(read_file(path))

    return write


def example_at(address, folder):
    """Return the registry of the page's file, with the subscriber's address replaced."""
    [text] = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    [broker] = [service for service in tomllib.loads(text)["service"] if service["name"] == "micro.http.broker"]
    path = folder / "page.toml"
    path.write_text(text.replace(broker["nodes"][0]["address"], address))
    return StaticRegistry(read_file(path))


async def test_the_example_of_the_page_reaches_its_subscriber(collector, message, tmp_path):
    received = collector()
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with subscriber.subscribe(Subscription(topic="greetings", handler=received, queue="workers")):
            async with HttpBroker(example_at(subscriber.address, tmp_path)) as publisher:
                await publisher.publish("greetings", message(b"hello"), confirm=True)
                assert received.got == [("greetings", message(b"hello"))]


async def test_a_node_without_our_mark_is_a_go_peer_and_one_of_ours_says_that_it_has_no_such_id(
    collector, message, written
):
    received = collector()
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with subscriber.subscribe(Subscription(topic="t", handler=received)):
            go = written(subscriber.address, '{ broker = "http", topic = "t" }')
            async with HttpBroker(go) as publisher:
                with pytest.raises(PublishError, match="was not handled by") as failure:
                    await publisher.publish("t", message(b"1"), confirm=True)
                assert publisher.stats().dropped == 1
    assert failure.value.failed == (f"micro.http.broker-{subscriber.address}",)
    assert received.got == []


async def test_each_subscription_of_the_topic_gets_what_is_posted_to_a_broadcast(collector, message, written):
    first, second, other, grouped = collector(), collector(), collector(), collector()
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with (
            subscriber.subscribe(Subscription(topic="t", handler=first)),
            subscriber.subscribe(Subscription(topic="t", handler=second)),
            subscriber.subscribe(Subscription(topic="other", handler=other)),
            subscriber.subscribe(Subscription(topic="t", handler=grouped, queue="q")),
        ):
            async with HttpBroker(written(subscriber.address)) as publisher:
                for number in range(10):
                    await publisher.publish("t", message(b"%d" % number), confirm=True)
    assert first.bodies == second.bodies == [b"%d" % number for number in range(10)]
    assert other.got == grouped.got == []


async def test_one_subscription_that_fails_is_told_though_the_others_of_the_topic_handled_it(
    collector, message, written
):
    async def fail(topic, message):
        raise ValueError("never")

    received = collector()
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with (
            subscriber.subscribe(Subscription(topic="t", handler=received)),
            subscriber.subscribe(Subscription(topic="t", handler=fail, retries=0)),
        ):
            async with HttpBroker(written(subscriber.address)) as publisher:
                with pytest.raises(PublishError, match="was not handled by"):
                    await publisher.publish("t", message(b"1"), confirm=True)
    assert received.bodies == [b"1"]


async def test_a_broadcast_goes_on_with_the_subscription_that_stays(collector, message, written):
    stays, leaves, started = collector(), anyio.CancelScope(), anyio.Event()

    async def stuck(topic, message):
        started.set()
        await anyio.sleep_forever()

    async with HttpBroker(StaticRegistry([]), drain_timeout=0.1) as subscriber:
        async with subscriber.subscribe(Subscription(topic="t", handler=stays)), anyio.create_task_group() as group:

            async def leave():
                with leaves:
                    async with subscriber.subscribe(Subscription(topic="t", handler=stuck)):
                        subscribed.set()
                        await anyio.sleep_forever()

            subscribed = anyio.Event()
            group.start_soon(leave)
            await subscribed.wait()
            async with HttpBroker(written(subscriber.address)) as publisher:
                await publisher.publish("t", message(b"1"))
                await started.wait()
                leaves.cancel()
                with anyio.fail_after(20):
                    await publisher.flush()
                assert publisher.stats().dropped == 0
    assert stays.bodies == [b"1"]


async def test_the_members_of_a_queue_group_at_one_address_share(collector, message, written):
    first, second, everything = collector(), collector(), collector()
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with (
            subscriber.subscribe(Subscription(topic="t", handler=first, queue="q")),
            subscriber.subscribe(Subscription(topic="t", handler=second, queue="q")),
            subscriber.subscribe(Subscription(topic="t", handler=everything)),
        ):
            async with HttpBroker(written(subscriber.address, queue="q")) as publisher:
                for number in range(200):
                    await publisher.publish("t", message(b"%d" % number))
                with anyio.fail_after(20):
                    await publisher.flush()
    assert sorted(first.bodies + second.bodies) == sorted(b"%d" % number for number in range(200))
    assert first.got
    assert second.got
    assert everything.got == []


async def test_a_subscriber_that_the_file_lists_to_its_own_publisher_handles_a_message_once(
    collector, message, written, free_address
):
    received = collector()
    async with HttpBroker(written(free_address), address=free_address) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            await broker.publish("t", message(b"1"), confirm=True)
            await broker.publish("t", message(b"2"), confirm=True)
    assert received.bodies == [b"1", b"2"]


async def test_a_broadcast_that_nobody_there_subscribes_to_fails_at_once(collector, message, written):
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with subscriber.subscribe(Subscription(topic="another", handler=collector())):
            async with HttpBroker(written(subscriber.address)) as publisher:
                with pytest.raises(PublishError) as failure:
                    await publisher.publish("t", message(b"1"), confirm=True)
                assert publisher.stats().waiting == 0
    assert failure.value.failed == (f"micro.http.broker-{subscriber.address}",)


async def test_a_queue_that_nobody_there_is_in_is_asked_with_growing_pauses_and_given_up_after_a_minute(
    peers, message, written, caplog
):
    waits, now = [], 0.0

    async def sleep(seconds):
        nonlocal now
        if seconds >= 10:
            await anyio.sleep_forever()
        waits.append(seconds)
        now += seconds
        await anyio.lowlevel.checkpoint()

    async with peers() as running:
        peer = await running.add("a", running.status(404), topic="unused")
        registry = written(peer.address, queue="q")
        async with HttpBroker(registry, clock=lambda: now, sleep=sleep, random=lambda: 1.0) as publisher:
            with anyio.fail_after(20), pytest.raises(PublishError) as failure:
                await publisher.publish("t", message(b"1"), confirm=True)
            assert (publisher.stats().waiting, publisher.stats().dropped) == (0, 1)
    assert failure.value.failed == (f"micro.http.broker-{peer.address}",)
    assert waits[:8] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert 60 <= sum(waits) < 66
    assert "every member of its queue is gone" in caplog.text


async def test_a_subscriber_that_comes_back_gets_what_waited_for_its_queue(collector, message, written):
    received = collector()
    async with HttpBroker(StaticRegistry([])) as subscriber:
        async with HttpBroker(written(subscriber.address, queue="q")) as publisher:
            await publisher.publish("t", message(b"1"))
            async with subscriber.subscribe(Subscription(topic="t", handler=received, queue="q")):
                with anyio.fail_after(20):
                    await publisher.flush()
    assert received.bodies == [b"1"]


@pytest.mark.parametrize("status", [404, 500])
async def test_what_a_go_peer_does_not_answer_with_200_was_not_handled(registry, peers, message, status):
    async with peers() as running, HttpBroker(registry) as broker:
        peer = await running.add("t-1", running.status(status), ours=False, form=Form.V1)
        with pytest.raises(PublishError) as failure:
            await broker.publish("t", message(b"1"), confirm=True)
    assert failure.value.failed == ("t-1",)
    assert len(peer.requests) == 1
