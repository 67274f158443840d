"""Guards at the broker's listener: who may not post is told so, and nothing of the message is read."""

import httpx
import pytest

from micro_broker_http.broker import HttpBroker
from micro_broker_http.wire.batch import BATCH_TYPE, PATH, encode_batch, encode_item
from micro_core import Forbidden, Message, PublishError, Subscription, Tls, Unauthorized

pytestmark = pytest.mark.anyio


@pytest.fixture
def tls(authority):
    cert, key = authority.issue("mailer", names=("127.0.0.1", "mailer.example"))
    return Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)


async def test_a_guard_sees_topic_peer_and_headers(registry, collector, message, tls):
    got, seen = collector(), []

    def guard(context):
        seen.append((context.endpoint, context.peer, context.headers[b"Authorization"]))

    broker = HttpBroker(registry, tls=tls, guards=[guard], credentials={"Authorization": "Bearer x"})
    async with broker, broker.subscribe(Subscription(topic="t", handler=got)):
        await broker.publish("t", message(b"1"), confirm=True)
    assert seen == [("t", ("mailer", "127.0.0.1", "mailer.example"), b"Bearer x")]
    assert got.bodies == [b"1"]


async def test_a_guard_sees_the_topic_of_what_is_posted_by_topic_and_keeps_it_out(registry, collector):
    got, seen = collector(), []

    def guard(context):
        seen.append(context.endpoint)
        raise Forbidden("not you")

    batch = encode_batch(b"0123456789ab", [encode_item(0, Message({}, b"1"))])
    async with HttpBroker(registry, guards=[guard]) as broker, httpx.AsyncClient(trust_env=False) as http:
        async with broker.subscribe(Subscription(topic="t", handler=got, queue="q")):
            url = f"http://{broker.address}{PATH}?topic=t&queue=q"
            answer = await http.post(url, content=batch, headers={"Content-Type": BATCH_TYPE.decode()})
    assert (answer.status_code, seen, got.bodies) == (403, ["t"], [])


@pytest.mark.parametrize("error", [Unauthorized("who are you?"), Forbidden("not you"), RuntimeError("a bug")])
@pytest.mark.parametrize("under_tls", [True, False])
async def test_what_a_guard_refuses_is_not_handled(registry, collector, message, tls, error, under_tls):
    got = collector()

    def guard(context):
        raise error

    broker = HttpBroker(registry, tls=tls if under_tls else None, guards=[guard], confirm_timeout=1, drain_timeout=0.1)
    async with broker, broker.subscribe(Subscription(topic="t", handler=got)):
        with pytest.raises(PublishError):
            await broker.publish("t", message(b"1"), confirm=True)
    assert got.bodies == []
