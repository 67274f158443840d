"""The broker under TLS: what is announced and spoken, and what is said where two ends do not fit."""

import base64
import json
import logging
import ssl

import anyio
import httpx
import pytest

from micro_broker_http.broker import HttpBroker
from micro_broker_http.publishing.client import PostClient
from micro_broker_http.wire.batch import BATCH_TYPE, PATH, encode_batch, encode_item
from micro_broker_http.wire.envelope import Form
from micro_core import ConfigError, Message, PublishError, Subscription, Tls

pytestmark = pytest.mark.anyio


@pytest.fixture
def tls(authority):
    cert, key = authority.issue("mailer")
    return Tls(cert=cert, key=key, ca=authority.file)


async def versions_used(monkeypatch, publish):
    """Return the versions of HTTP in which the answers to what was posted came."""
    seen = []
    send = PostClient.send

    async def watched(self, request, **arguments):
        answer = await send(self, request, **arguments)
        seen.append((request.url.scheme, answer.http_version))
        return answer

    monkeypatch.setattr(PostClient, "send", watched)
    await publish()
    return set(seen)


async def test_messages_to_a_secure_subscriber_go_over_http_2(registry, collector, message, tls, monkeypatch):
    got = collector()
    async with HttpBroker(registry, tls=tls) as broker, broker.subscribe(Subscription(topic="t", handler=got)):
        used = await versions_used(monkeypatch, lambda: broker.publish("t", message(b"1"), confirm=True))
    assert got.bodies == [b"1"]
    assert used == {("https", "HTTP/2")}


async def test_a_subscription_is_registered_as_secure(registry, collector, tls):
    async with HttpBroker(registry, tls=tls) as broker, broker.subscribe(Subscription(topic="t", handler=collector())):
        records = [record for form in Form for record in await registry.lookup(form.value)]
    assert [record.nodes[0].metadata["secure"] for record in records] == ["true", "true"]


@pytest.mark.parametrize("http2", [True, False])
async def test_a_stranger_posts_with_either_http(registry, collector, tls, http2):
    got = collector()
    async with HttpBroker(registry, tls=tls) as broker, broker.subscribe(Subscription(topic="t", handler=got)):
        (record, *_) = await registry.lookup(Form.V2.value)
        trusting = ssl.create_default_context(cafile=tls.ca)
        async with httpx.AsyncClient(http2=http2, verify=trusting, trust_env=False) as stranger:
            envelope = {"Header": {"Micro-Topic": "t"}, "Body": base64.b64encode(b"hello").decode()}
            url = f"https://{broker.address}/?id={record.nodes[0].id}"
            answer = await stranger.post(url, content=json.dumps(envelope))
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    assert got.bodies == [b"hello"]


@pytest.fixture
def mutual(authority):
    """Return a function from a name to settings with which both ends prove who they are."""

    def settings(name):
        cert, key = authority.issue(name, names=("127.0.0.1", f"{name}.example"))
        return Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)

    return settings


async def test_a_message_has_the_names_of_its_own_publisher(registry, collector, message, mutual):
    got = collector()
    async with (
        HttpBroker(registry, tls=mutual("mailer")) as mailer,
        HttpBroker(registry, tls=mutual("biller")) as biller,
        mailer.subscribe(Subscription(topic="t", handler=got)),
    ):
        for number in range(5):
            for publisher in (mailer, biller):
                await publisher.publish("t", message(b"%d" % number))
        await got.wait_for(10)
    names = [m.peer for _, m in sorted(got.got, key=lambda pair: (pair[1].body, pair[1].peer))]
    assert names == [("biller", "127.0.0.1", "biller.example"), ("mailer", "127.0.0.1", "mailer.example")] * 5


async def test_who_was_asked_for_no_certificate_has_no_names(registry, collector, message, tls):
    got = collector()
    async with HttpBroker(registry, tls=tls) as broker, broker.subscribe(Subscription(topic="t", handler=got)):
        await broker.publish("t", message(b"1"), confirm=True)
    assert got.got[0][1].peer == ()


@pytest.mark.parametrize("http2", [True, False])
async def test_what_a_stranger_posts_has_its_names(registry, collector, mutual, http2):
    got, own = collector(), mutual("stranger").for_client(["h2", "http/1.1"] if http2 else ["http/1.1"])
    async with (
        HttpBroker(registry, tls=mutual("mailer")) as broker,
        broker.subscribe(Subscription(topic="t", handler=got)),
    ):
        (record, *_) = await registry.lookup(Form.V2.value)
        async with httpx.AsyncClient(http2=http2, verify=own, trust_env=False) as stranger:
            envelope = {"Header": {"Micro-Topic": "t"}, "Body": ""}
            url = f"https://{broker.address}/?id={record.nodes[0].id}"
            answers = [await stranger.post(url, content=json.dumps(envelope)) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [m.peer for _, m in got.got] == [("stranger", "127.0.0.1", "stranger.example")] * 2


async def test_a_message_keeps_the_names_of_who_posted_it_first(registry, collector, mutual):
    """A publisher may post a message again, on another connection; who posts another's changes nothing."""
    got = collector()
    body = encode_batch(b"0123456789ab", [encode_item(1, Message({}, b"hi"))])
    async with (
        HttpBroker(registry, tls=mutual("mailer")) as broker,
        broker.subscribe(Subscription(topic="t", handler=got)),
    ):
        (record, *_) = await registry.lookup(Form.V2.value)
        url = f"https://{broker.address}{PATH}?id={record.nodes[0].id}"
        for name in ("mailer", "stranger"):
            verify = mutual(name).for_client(["http/1.1"])
            async with httpx.AsyncClient(verify=verify, trust_env=False) as client:
                answer = await client.post(url, content=body, headers={"Content-Type": BATCH_TYPE.decode()})
                assert answer.content.endswith(b"1\n")
    assert [m.peer for _, m in got.got] == [("mailer", "127.0.0.1", "mailer.example")]


async def why_not(registry, collector, message, caplog, *, listening, posting):
    """Return what the publisher logs when a message cannot be delivered."""
    failed = anyio.Event()

    async def rest(seconds):
        """One attempt is enough; one that is cancelled in its handshake would leave its socket to httpcore."""
        failed.set()
        await anyio.sleep_forever()

    async with (
        HttpBroker(registry, tls=listening) as there,
        HttpBroker(registry, tls=posting, drain_timeout=0.1, confirm_timeout=0.1, sleep=rest) as here,
    ):
        async with there.subscribe(Subscription(topic="t", handler=collector())):
            with caplog.at_level(logging.INFO, "micro.broker.http"), anyio.fail_after(10):
                await here.publish("t", message(b"1"))
                await failed.wait()
                with pytest.raises(PublishError):
                    await here.publish("t", message(b"2"), confirm=True)
    return caplog.text


async def test_wrong_authority(registry, collector, message, caplog, tls, new_authority):
    other = Tls(ca=new_authority("other").file)
    text = await why_not(registry, collector, message, caplog, listening=tls, posting=other)
    assert "comes from an authority that is not trusted here: name that authority in tls_ca" in text


async def test_not_the_pinned(registry, collector, message, caplog, tls):
    text = await why_not(registry, collector, message, caplog, listening=tls, posting=Tls(pin=("ab" * 32,)))
    assert "which is not pinned" in text


async def test_expired(registry, collector, message, caplog, authority):
    cert, key = authority.issue("old", days=(-9, -1))
    posting = Tls(ca=authority.file)
    text = await why_not(
        registry, collector, message, caplog, listening=Tls(cert=cert, key=key, ca=authority.file), posting=posting
    )
    assert "its certificate has expired" in text


async def test_wrong_name(registry, collector, message, caplog, authority):
    cert, key = authority.issue("elsewhere", names=())
    text = await why_not(
        registry, collector, message, caplog, listening=Tls(cert=cert, key=key), posting=Tls(ca=authority.file)
    )
    assert "its certificate is for other addresses" in text


async def test_no_client_certificate(registry, collector, message, caplog, tls):
    listening = Tls(cert=tls.cert, key=tls.key, ca=tls.ca, client_ca=tls.ca)
    text = await why_not(registry, collector, message, caplog, listening=listening, posting=Tls(ca=tls.ca))
    assert "asks for a certificate of ours: set tls_cert and tls_key" in text


async def test_who_has_tls_settings_never_posts_in_clear_text(registry, collector, message, caplog, tls):
    text = await why_not(registry, collector, message, caplog, listening=None, posting=Tls(ca=tls.ca))
    assert "it speaks clear text, where TLS is expected" in text


async def test_a_stalled_handshake_delays_nobody(registry, collector, message, tls):
    got = collector()
    async with HttpBroker(registry, tls=tls) as broker, broker.subscribe(Subscription(topic="t", handler=got)):
        host, _, port = broker.address.rpartition(":")
        async with await anyio.connect_tcp(host, int(port)):
            with anyio.fail_after(4):
                await broker.publish("t", message(b"1"), confirm=True)
    assert got.bodies == [b"1"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (Tls(cert="none.pem"), "tls_cert 'none.pem' cannot be read"),
        (Tls(ca="none.pem"), "tls_ca 'none.pem' cannot be read"),
        (Tls(require=True), "would speak clear text, which require_tls forbids"),
    ],
)
def test_wrong_settings_stop_the_start(registry, wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        HttpBroker(registry, address="0.0.0.0:0", tls=wrong)


async def test_clear_text_off_loopback_is_not_posted_where_tls_is_required():
    async with PostClient(Tls(require=True), ssl.create_default_context()) as client:
        client.build_request("POST", "http://127.0.0.1:1/")
        with pytest.raises(httpx.UnsupportedProtocol, match=r"messages to 10\.0\.0\.5:1 would speak clear text"):
            client.build_request("POST", "http://10.0.0.5:1/")
