"""What the listener answers to whoever posts, well-meaning or not (docs/wire.md §4.2, docs/protocol.md §7)."""

import logging

import anyio
import httpx
import pytest

from micro_broker_http import HttpBroker
from micro_broker_http.broker import LIBRARY_LEVELS
from micro_broker_http.wire.batch import ACKS_TYPE, BATCH_TYPE, PATH, encode_batch, encode_item
from micro_core import Closed, ConfigError, Message, Subscription

pytestmark = pytest.mark.anyio

PUBLISHER = b"0123456789ab"
BATCH = {"Content-Type": BATCH_TYPE.decode()}
ENVELOPE = b'{"Header":{":topic":"t"},"Body":"aGk="}'


def batch(*numbers):
    return encode_batch(PUBLISHER, [encode_item(number, Message({}, b"%d" % number)) for number in numbers])


def client():
    return httpx.AsyncClient(trust_env=False)


async def raw(broker, data):
    """Return everything that the listener answers to these bytes."""
    host, port = broker.address.split(":")
    answer = b""
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(data)
        with anyio.move_on_after(10):
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    return answer


async def node_id(registry):
    [record] = await registry.lookup("micro.http.broker")
    return record.nodes[0].id


async def test_statuses_are_those_of_go(registry, collector):
    received = collector()
    async with HttpBroker(registry) as broker, client() as http:
        url = f"http://{broker.address}"
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            id = await node_id(registry)
            answers = [
                await http.get(f"{url}/_sub"),
                await http.put(f"{url}/"),
                await http.post(f"{url}/", content=b"null"),
                await http.post(f"{url}/_sub", content=b'{"Header":{},"Body":""}'),
                await http.post(f"{url}/_sub?id=nobody", content=ENVELOPE),
                await http.post(f"{url}/_sub?id={id}", content=ENVELOPE.replace(b'"t"', b'"another"')),
                await http.post(f"{url}/elsewhere", content=ENVELOPE),
            ]
            assert received.got == []
            answers.append(await http.post(f"{url}/?id={id}", content=ENVELOPE))
    assert [answer.status_code for answer in answers] == [405, 405, 500, 500, 200, 200, 404, 200]
    assert answers[0].json()["detail"] == "Method not allowed"
    assert answers[2].json()["id"] == "go.micro.broker"
    assert received.bodies == [b"hi"]


async def test_who_takes_acknowledgements_hears_in_gos_form_too_what_was_not_handled(registry, collector):
    async def fail(topic, message):
        raise ValueError("never")

    received, candid = collector(), {"Accept": f"{ACKS_TYPE.decode()}, */*"}
    async with HttpBroker(registry) as broker, client() as http:
        url = f"http://{broker.address}"
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            id = await node_id(registry)
            answers = [
                await http.post(f"{url}/_sub?id=nobody", content=ENVELOPE, headers=candid),
                await http.post(f"{url}/", content=ENVELOPE, headers=candid),
                await http.post(f"{url}/?id={id}", content=ENVELOPE.replace(b'"t"', b'"another"'), headers=candid),
                await http.post(f"{url}/?id={id}", content=ENVELOPE, headers=candid),
            ]
        async with broker.subscribe(Subscription(topic="t", handler=fail, retries=0)):
            id = await node_id(registry)
            answers.append(await http.post(f"{url}/?id={id}", content=ENVELOPE, headers=candid))
            answers.append(await http.post(f"{url}/?id={id}", content=ENVELOPE))
    assert [answer.status_code for answer in answers] == [404, 404, 404, 200, 500, 200]
    assert received.bodies == [b"hi"]


async def test_statuses_of_batches(registry, collector):
    async with HttpBroker(registry, body_limit=1000) as broker, client() as http:
        async with broker.subscribe(Subscription(topic="t", handler=collector())):
            url = f"http://{broker.address}{PATH}?id={await node_id(registry)}"
            answers = [
                await http.post(url, content=b"junk", headers=BATCH),
                await http.post(url, content=batch(1)),
                await http.post(f"http://{broker.address}{PATH}?id=x", content=batch(1), headers=BATCH),
                await http.post(url, content=b"x" * 1001, headers=BATCH),
                await http.get(url),
            ]
            good = await http.post(url, content=batch(1, 2), headers=BATCH)
    assert [answer.status_code for answer in answers] == [400, 415, 404, 413, 405]
    assert (good.status_code, good.content) == (200, b"2\n")


async def test_a_body_without_a_length_is_cut_off_at_the_limit(registry):
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with HttpBroker(registry, body_limit=1000) as broker:
        answer = await raw(broker, head + b"7d0\r\n" + b"x" * 2000 + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 300_000 + b"\r\n\r\n",
    ],
    ids=["both lengths", "two lengths", "negative", "bad name", "binary", "large headers"],
)
async def test_broken_http_is_refused_and_the_listener_lives_on(registry, collector, data):
    received = collector()
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            answer = await raw(broker, data)
            await broker.publish("t", Message({}, b"1"), confirm=True)
    assert answer.split(b" ")[1] in {b"400", b"431"}
    assert received.bodies == [b"1"]


async def test_a_websocket_is_refused(registry):
    upgrade = (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    async with HttpBroker(registry) as broker:
        assert (await raw(broker, upgrade)).startswith(b"HTTP/1.1 403")


async def test_peers_that_go_in_the_middle_do_no_harm(registry, collector):
    received = collector()
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            host, port = broker.address.split(":")
            for data in (b"", b"POST", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"):
                async with await anyio.connect_tcp(host, int(port)) as stream:
                    await stream.send(data)
            await broker.publish("t", Message({}, b"1"), confirm=True)
    assert received.bodies == [b"1"]


async def test_a_batch_that_is_sent_again_is_not_handled_again(registry, collector):
    received = collector()
    async with HttpBroker(registry) as broker, client() as http:
        async with broker.subscribe(Subscription(topic="t", handler=received)):
            url = f"http://{broker.address}{PATH}?id={await node_id(registry)}"
            first = await http.post(url, content=batch(1, 2), headers=BATCH)
            again = await http.post(url, content=batch(1, 2, 3), headers=BATCH)
            whole = await http.post(url, content=batch(1, 2, 3), headers=BATCH)
    assert received.bodies == [b"1", b"2", b"3"]
    assert [first.content, again.content[-2:], whole.content] == [b"2\n", b"3\n", b"3\n"]


async def test_a_message_is_handled_once_though_its_connection_broke(registry):
    release, started, handled = anyio.Event(), anyio.Event(), []

    async def handler(topic, message):
        started.set()
        await release.wait()
        handled.append(message.body)

    async with HttpBroker(registry) as broker, client() as http:
        async with broker.subscribe(Subscription(topic="t", handler=handler)):
            url = f"http://{broker.address}{PATH}?id={await node_id(registry)}"
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: http.post(url, content=batch(1, 2), headers=BATCH))
                await started.wait()
                group.cancel_scope.cancel()
            async with http.stream("POST", url, content=batch(1, 2), headers=BATCH) as answer:
                release.set()
                assert (await answer.aread())[-2:] == b"2\n"
    assert handled == [b"1", b"2"]


async def test_a_broker_that_is_not_open_or_was_closed_says_so(registry):
    broker = HttpBroker(registry)
    with pytest.raises(Closed, match="not open"):
        await broker.publish("t", Message({}))
    async with broker:
        pass
    await broker.aclose()
    with pytest.raises(Closed, match="was closed"):
        await broker.publish("t", Message({}))
    assert repr(broker) == "<HttpBroker closed, 0 subscriptions, 0 waiting>"


async def test_an_address_that_cannot_be_bound_stops_the_start(registry):
    async with HttpBroker(registry) as broker:
        with pytest.raises(ConfigError, match="cannot be bound"):
            async with HttpBroker(registry, address=broker.address):
                pass


async def fail_inside(registry):
    async with HttpBroker(registry) as broker:
        async with broker.subscribe(Subscription(topic="t", handler=ignore)):
            raise KeyError("mine")


async def ignore(topic: str, message: Message) -> None:
    return None


async def test_errors_leave_with_their_own_type(registry):
    with pytest.raises(KeyError, match="mine"):
        await fail_inside(registry)


async def test_being_cancelled_closes_everything(registry, collector):
    with anyio.move_on_after(0.2) as patience:
        async with HttpBroker(registry) as broker:
            async with broker.subscribe(Subscription(topic="t", handler=collector())):
                await broker.publish("t", Message({}), confirm=True)
                await anyio.sleep_forever()
    assert patience.cancelled_caught
    assert await registry.lookup("micro.http.broker") == []


@pytest.fixture
def library_levels():
    before = [(logger, logger.level) for logger in LIBRARY_LEVELS]
    for logger in LIBRARY_LEVELS:
        logger.setLevel(logging.NOTSET)
    yield
    for logger, level in before:
        logger.setLevel(level)


async def test_opening_keeps_what_libraries_say_of_every_message_out_of_the_log(registry, library_levels):
    async with HttpBroker(registry):
        assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
        assert not logging.getLogger("hpack.table").isEnabledFor(logging.DEBUG)


async def test_a_level_that_the_program_has_set_stays(registry, library_levels):
    logging.getLogger("httpx").setLevel(logging.DEBUG)
    async with HttpBroker(registry):
        assert logging.getLogger("httpx").level == logging.DEBUG
