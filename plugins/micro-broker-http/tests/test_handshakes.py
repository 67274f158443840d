"""Handshakes at the broker's listener that come to nothing: each is logged with its reason, and delays nobody."""

import logging
import ssl

import anyio
import pytest

from micro_broker_http.broker import HttpBroker
from micro_broker_http.subscribing import listener
from micro_core import Subscription, Tls
from micro_core.tls import HANDSHAKE_SECONDS

pytestmark = pytest.mark.anyio


@pytest.fixture
def tls(authority):
    cert, key = authority.issue("mailer")
    return Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)


async def reason(caplog, tls, registry, call):
    """Return what the listener logs about a caller, ``call`` of its host and port."""
    caplog.set_level(logging.INFO, "micro.broker.http")
    caplog.clear()
    async with HttpBroker(registry, tls=tls) as broker:
        host, _, port = broker.address.rpartition(":")
        with anyio.fail_after(10):
            await call(host, int(port))
            while "refused 127.0.0.1:" not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await anyio.sleep(0.01)
    assert caplog.text.count("refused") == 1
    return caplog.text


def shaking(context):
    """Return a caller that shakes hands with a context and reads until it is refused."""

    async def call(host, port):
        options = {"ssl_context": context, "tls_standard_compatible": False}
        try:
            async with await anyio.connect_tcp(host, port, **options) as stream:
                await stream.receive()
        except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    return call


def saying(data):
    """Return a caller that sends bytes, and reads what is answered."""

    async def call(host, port):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(data)
            try:
                await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    return call


async def test_no_certificate(caplog, tls, registry):
    context = Tls(ca=tls.ca).for_client([])
    assert "it presented no certificate, which tls_client_ca asks for" in await reason(
        caplog, tls, registry, shaking(context)
    )


async def test_certificate_of_another_authority(caplog, tls, registry, new_authority):
    cert, key = new_authority("other").issue("mailer")
    context = Tls(cert=cert, key=key, ca=tls.ca).for_client([])
    assert "its certificate comes from an authority that is not trusted here" in await reason(
        caplog, tls, registry, shaking(context)
    )


async def test_a_caller_that_does_not_trust_us(caplog, tls, registry, new_authority):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting_another = ssl.create_default_context(cafile=new_authority("other").file)
    caller = trusting_another.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")

    async def call(host, port):
        async with await anyio.connect_tcp(host, port) as stream:
            with pytest.raises(ssl.SSLWantReadError):
                caller.do_handshake()
            await stream.send(outgoing.read())
            incoming.write(await stream.receive())
            with pytest.raises(ssl.SSLCertVerificationError):
                caller.do_handshake()
            await stream.send(outgoing.read())

    assert "it does not trust the authority of our certificate" in await reason(caplog, tls, registry, call)


async def test_clear_text(caplog, tls, registry):
    text = await reason(caplog, tls, registry, saying(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert "it speaks clear text, where TLS is expected" in text


async def test_gone_in_the_middle(caplog, tls, registry):
    async def call(host, port):
        async with await anyio.connect_tcp(host, port) as stream:
            await stream.send(b"\x16\x03\x01")

    assert "it closed the connection in the TLS handshake" in await reason(caplog, tls, registry, call)


async def test_a_stalled_one_is_closed_in_time_and_delays_nobody(
    caplog, tls, registry, collector, message, monkeypatch
):
    monkeypatch.setattr(listener, "HANDSHAKE_SECONDS", 3.0)
    caplog.set_level(logging.INFO, "micro.broker.http")
    got = collector()
    async with HttpBroker(registry, tls=tls) as broker, broker.subscribe(Subscription(topic="t", handler=got)):
        host, _, port = broker.address.rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as silent, await anyio.connect_tcp(host, int(port)) as slow:
            await slow.send(b"\x16\x03")
            with anyio.fail_after(2.5):
                await broker.publish("t", message(b"1"), confirm=True)
            for stream in (silent, slow):
                with anyio.fail_after(6), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
    assert got.bodies == [b"1"]
    assert caplog.text.count("no TLS handshake within 3 seconds") == 2


async def test_closing_does_not_wait_for_a_stalled_one(tls, registry):
    async with HttpBroker(registry, tls=tls) as broker:
        host, _, port = broker.address.rpartition(":")
        stalled = await anyio.connect_tcp(host, int(port))
        await stalled.send(b"\x16\x03")
        await anyio.sleep(0.1)
        began = anyio.current_time()
    assert anyio.current_time() - began < listener.GRACE + 1
    await stalled.aclose()


def test_five_seconds_are_the_limit():
    assert vars(listener)["HANDSHAKE_SECONDS"] == HANDSHAKE_SECONDS == 5.0
