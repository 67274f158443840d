"""What the publisher does when a subscriber does not acknowledge: nothing is lost while somebody is there."""

from typing import Any

import anyio
import pytest

from micro_broker_http import HttpBroker
from micro_broker_http.wire.envelope import Form
from micro_broker_http.wire.naming import records
from micro_core import PublishError, Subscription

pytestmark = pytest.mark.anyio


def open_broker(registry, virtual, **options):
    return HttpBroker(registry, clock=virtual.clock, sleep=virtual.sleep, random=lambda: 0.5, **options)


async def test_what_is_acknowledged_is_not_sent_again_and_the_rest_keeps_its_order(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual) as broker:
        answers = running.everything, running.broken(2), running.broken(), running.acks(1), running.everything
        peer = await running.add("a", *answers, held=True)
        for number in range(6):
            await broker.publish("t", message(b"%d" % number))
            await peer.wait_for(1)
        peer.released.set()
        await broker.flush()
    assert [posted.bodies for posted in peer.requests] == [
        [b"0"],
        [b"1", b"2", b"3", b"4", b"5"],
        [b"3", b"4", b"5"],
        [b"3", b"4", b"5"],
        [b"4", b"5"],
    ]
    assert peer.requests[2].numbers == peer.requests[1].numbers[2:]


async def test_one_batch_is_under_way_at_a_time_and_the_next_has_all_that_came_meanwhile(
    registry, peers, virtual, message
):
    async with peers() as running, open_broker(registry, virtual) as broker:
        peer = await running.add("a", running.everything, held=True)
        for number in range(400):
            await broker.publish("t", message(b"%d" % number))
            await peer.wait_for(1)
        assert len(peer.requests) == 1
        peer.released.set()
        await broker.flush()
    assert [len(posted.bodies) for posted in peer.requests] == [1, 256, 143]


@pytest.mark.parametrize("answer", ["404", "503", "ended early", "farewell"])
async def test_another_member_of_the_queue_gets_what_one_does_not_take(registry, peers, virtual, message, answer):
    async with peers() as running, open_broker(registry, virtual) as broker:
        answers = {"ended early": running.acks(), "farewell": running.farewell}
        first = await running.add("a", answers.get(answer) or running.status(int(answer)), queue="q")
        await broker.publish("t", message(b"1"))
        await first.wait_for(1)
        second = await running.add("b", running.everything, queue="q")
        await broker.flush()
    assert second.requests[0].bodies == [b"1"]


async def test_another_member_gets_what_nobody_listens_for(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual) as broker:
        second = await running.add("b", running.everything, queue="q")
        gone = running.records(type(second)("a", "127.0.0.1:1", []), queue="q")
        for record in gone:
            await registry.register(record)
        for number in range(10):
            await broker.publish("t", message(b"%d" % number), confirm=True)
    assert sorted(body for posted in second.requests for body in posted.bodies) == [b"%d" % n for n in range(10)]


async def test_a_broken_batch_stays_with_its_member_until_the_registry_has_lost_it(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual) as broker:
        first = await running.add("a", running.broken(), queue="q")
        await broker.publish("t", message(b"1"))
        await first.wait_for(1)
        second = await running.add("b", running.everything, queue="q")
        await first.wait_for(5)
        assert second.requests == []
        await running.remove(first, queue="q")
        await broker.flush()
    assert second.requests[0].bodies == [b"1"]


async def test_a_broadcast_waits_for_a_node_that_went_and_is_dropped_after_a_minute(
    registry, peers, virtual, message, caplog
):
    async with peers() as running, open_broker(registry, virtual) as broker:
        peer = await running.add("a", running.broken())
        await broker.publish("t", message(b"1"))
        await peer.wait_for(2)
        await running.remove(peer)
        with anyio.fail_after(20):
            await virtual.slumber.wait()
        assert (broker.stats().waiting, broker.stats().dropped) == (1, 0)
        virtual.advance(61)
        await broker.flush()
        assert (broker.stats().waiting, broker.stats().dropped) == (0, 1)
    assert "1 messages of topic 't' dropped" in caplog.text


async def test_a_node_that_comes_back_within_a_minute_gets_what_waited(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual) as broker:
        peer = await running.add("a", running.broken())
        await broker.publish("t", message(b"1"))
        await peer.wait_for(1)
        await running.remove(peer)
        await peer.wait_for(3)
        peer.answers[:] = [running.everything]
        for record in running.records(peer):
            await registry.register(record)
        await broker.flush()
        assert broker.stats().dropped == 0


@pytest.mark.parametrize("saying", ["404", "farewell"])
async def test_a_broadcast_to_a_subscription_that_is_gone_is_dropped_at_once(registry, peers, virtual, message, saying):
    async with peers() as running, open_broker(registry, virtual) as broker:
        await running.add("a", running.status(404) if saying == "404" else running.farewell)
        with pytest.raises(PublishError, match="not handled by a") as failure:
            await broker.publish("t", message(b"1"), confirm=True)
        assert failure.value.failed == ("a",)
        assert broker.stats().dropped == 1


async def test_a_message_that_is_refused_does_not_stop_the_others(registry, peers, virtual, message):
    def refuse_the_bad(posted):
        return running.status(413) if b"bad" in posted.bodies else running.everything(posted)

    async with peers() as running, open_broker(registry, virtual) as broker:
        peer = await running.add("a", refuse_the_bad, held=True)
        for body in (b"1", b"2", b"bad", b"3"):
            await broker.publish("t", message(body))
            await peer.wait_for(1)
        peer.released.set()
        await broker.flush()
        assert broker.stats().dropped == 1
    assert [posted.bodies for posted in peer.requests[2:]] == [[b"2"], [b"bad"], [b"3"]]


async def test_confirming_names_those_who_have_not_handled_the_message(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual, confirm_timeout=1) as broker:
        await running.add("good", running.everything)
        bad = await running.add("bad", running.broken())
        with pytest.raises(PublishError) as failure:
            await broker.publish("t", message(b"1"), confirm=True)
        assert failure.value.failed == ("bad",)
        bad.answers[:] = [running.everything]
        await broker.flush()


@pytest.mark.parametrize("form", Form)
async def test_go_peers_get_the_form_that_belongs_to_their_name(registry, peers, virtual, message, form):
    async with peers() as running, open_broker(registry, virtual) as broker:
        peer = await running.add("go-1", running.status(200), ours=False, form=form)
        await broker.publish("t", message(b"hi"), confirm=True)
    [posted] = peer.requests
    assert posted.target == ("/_sub?id=go-1" if form is Form.V1 else "/?id=go-1")
    assert posted.headers[b"content-type"] == b"application/json"
    assert posted.envelope == {
        "Header": {":topic": "t", "Content-Type": "application/json", "Micro-Topic": "t"},
        "Body": "aGk=",
    }


async def test_a_go_peer_that_cannot_be_reached_is_tried_once_more_at_another_member(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual) as broker:
        bad = await running.add("a", b"", queue="q", ours=False, form=Form.V1)
        await broker.publish("t", message(b"1"))
        await bad.wait_for(1)
        good = await running.add("b", running.status(200), queue="q", ours=False, form=Form.V1)
        await broker.flush()
        assert len(bad.requests) + len(good.requests) == 2
        assert broker.stats().dropped == len(bad.requests) - 1


async def test_a_full_outbox_makes_the_publisher_wait(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual, outbox_messages=3) as broker:
        peer = await running.add("a", running.everything, held=True)
        for number in range(3):
            await broker.publish("t", message(b"%d" % number))
        with anyio.move_on_after(0.1) as patience:
            await broker.publish("t", message(b"3"))
        assert patience.cancelled_caught
        assert broker.stats().waiting == 3
        peer.released.set()
        await broker.publish("t", message(b"4"))
        assert await broker.flush() == 0
        assert broker.stats().dropped == 0


async def test_a_message_too_large_for_subscribers_is_refused(registry, peers, virtual, message):
    async with peers() as running, open_broker(registry, virtual, body_limit=10_000) as broker:
        await running.add("a", running.everything)
        with pytest.raises(PublishError, match="bytes cannot be published"):
            await broker.publish("t", message(b"x" * 10_000))


async def test_closing_is_bounded_and_logs_what_is_left(registry, peers, virtual, message, caplog):
    async with peers() as running:
        async with open_broker(registry, virtual, drain_timeout=0.1) as broker:
            await running.add("a", running.broken())
            await broker.publish("t", message(b"1"))
    assert "closes with 1 messages not handled" in caplog.text


async def test_the_only_member_of_a_queue_restarts_and_misses_nothing(registry, message, collector):
    got = collector()
    async with HttpBroker(registry) as here:
        for life in range(3):
            async with HttpBroker(registry) as there:
                async with there.subscribe(Subscription(topic="t", handler=got, queue="q")):
                    await here.publish("t", message(b"%d there" % life), confirm=True)
            for number in range(5):
                await here.publish("t", message(b"%d away %d" % (life, number)))
        async with HttpBroker(registry) as there, there.subscribe(Subscription(topic="t", handler=got, queue="q")):
            await got.wait_for(18)
            assert await here.flush() == 0
        assert here.stats().dropped == 0
    lives = [[b"%d there" % life, *(b"%d away %d" % (life, number) for number in range(5))] for life in range(3)]
    assert got.bodies == [body for life in lives for body in life]


async def test_a_queue_that_nobody_comes_back_to_is_forgotten_after_a_minute(registry, message, collector, virtual):
    got = collector()
    async with HttpBroker(registry) as there, open_broker(registry, virtual) as here:
        async with there.subscribe(Subscription(topic="t", handler=got, queue="q")):
            await here.publish("t", message(b"there"), confirm=True)
        await here.publish("t", message(b"away"))
        with anyio.fail_after(20):
            await virtual.slumber.wait()
            virtual.advance(61)
            await here.flush()
        assert here.stats().dropped == 1
        with pytest.raises(PublishError, match="no subscriber of topic 't' is known"):
            await here.publish("t", message(b"too late"))


async def test_a_broadcast_subscriber_that_returns_under_its_id_gets_what_was_kept(
    registry, message, collector, free_address
):
    got = collector()
    wanted = Subscription(topic="t", handler=got, service="shop", name="ship", node="one")
    async with HttpBroker(registry) as here:
        for life in range(3):
            async with HttpBroker(registry, address=free_address) as there, there.subscribe(wanted):
                await here.publish("t", message(b"%d there" % life), confirm=True)
            for number in range(5):
                await here.publish("t", message(b"%d away %d" % (life, number)))
        async with HttpBroker(registry, address=free_address) as there, there.subscribe(wanted):
            await got.wait_for(18)
            assert await here.flush() == 0
        assert here.stats().dropped == 0
    assert got.bodies[:7] == [b"0 there", *(b"0 away %d" % number for number in range(5)), b"1 there"]


async def test_two_subscriptions_of_one_name_both_get_what_is_published(registry, message, collector):
    one, other = collector(), collector()
    fields: dict[str, Any] = {"topic": "t", "service": "shop", "name": "ship", "node": "one"}
    async with HttpBroker(registry) as there, HttpBroker(registry) as here:
        async with (
            there.subscribe(Subscription(handler=one, **fields)),
            there.subscribe(Subscription(handler=other, **fields)),
        ):
            await here.publish("t", message(b"1"), confirm=True)
    assert one.bodies == other.bodies == [b"1"]


async def test_a_dead_broadcast_subscriber_with_a_full_outbox_holds_nobody_up(
    registry, message, collector, free_address, caplog
):
    got = collector()
    for record in records(id="dead", topic="t", queue="", address=free_address):
        await registry.register(record)
    async with HttpBroker(registry, outbox_messages=20, drain_timeout=0.1) as here, HttpBroker(registry) as there:
        async with there.subscribe(Subscription(topic="t", handler=got)):
            with anyio.fail_after(20):
                for number in range(200):
                    await here.publish("t", message(b"%d" % number))
                await got.wait_for(200)
            assert here.stats().dropped >= 180

            async def confirm():
                with pytest.raises(PublishError) as failure:
                    await here.publish("t", message(b"confirmed"), confirm=True)
                failed.extend(failure.value.failed)

            failed: list[str] = []
            with anyio.fail_after(20):
                async with anyio.create_task_group() as others:
                    others.start_soon(confirm)
                    for number in range(60):
                        await here.publish("t", message(b"more %d" % number))
    assert failed == ["dead"]
    assert got.bodies[:200] == [b"%d" % number for number in range(200)]
    assert caplog.text.count("out of reach and its outbox is full") == 1
