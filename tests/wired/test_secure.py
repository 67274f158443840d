"""The default parts under mutual TLS with tokens, as services and strangers see them."""

from __future__ import annotations

import base64
import json
import logging
import ssl
from typing import Any

import anyio
import httpx
import pytest

from micro_broker_http.broker import HttpBroker
from micro_broker_http.wire.envelope import Form
from micro_core import (
    Client,
    Context,
    Forbidden,
    Message,
    PluginHost,
    PublishError,
    Service,
    Tls,
    Unauthorized,
    current_context,
)
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_extension_auth import Auth, digest

pytestmark = pytest.mark.anyio

CANARY = "canary-2b9d41-token"


@pytest.fixture
def tls(authority: Any) -> Any:
    """Return a function from a name to settings for mutual TLS."""

    def settings(name: str) -> Tls:
        cert, key = authority.issue(name)
        return Tls(cert=cert, key=key, ca=authority.file, client_ca=authority.file)

    return settings


def host(auth: Auth) -> PluginHost:
    made = PluginHost()
    made.register("extension", "auth", auth)
    return made


class Town:
    """A greeter, and whoever calls it."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.seen: list[Any] = []
        self.greeted = anyio.Event()

    def parts(self, tls: Tls | None, auth: Auth) -> dict[str, Any]:
        registry = MemoryRegistry(network=self.network)
        return {"registry": registry, "tls": tls, "plugins": host(auth), "extensions": "auth"}

    def greeter(self, tls: Tls, auth: Auth) -> Service:
        service = Service("greeter", linger=0, **self.parts(tls, auth))

        @service.handler
        class Greeter:
            async def hello(_, request: dict[str, str], context: Context) -> str:
                self.seen.append(context.peer)
                return f"Hello {request['name']}"

        @service.subscriber("secured")
        async def greeted(message: str) -> None:
            self.seen.append(message)
            self.greeted.set()

        return service


async def test_a_caller_is_known_by_its_certificate(tls: Any) -> None:
    town, auth = Town(), Auth(allow={"Greeter.Hello": ["mailer"]})
    async with town.greeter(tls("greeter"), auth) as service:
        assert service.node.metadata["secure"] == "true"
        async with Client(**town.parts(tls("mailer"), Auth())) as mailer:
            assert await mailer.call("greeter", "Greeter.Hello", {"name": "John"}, str) == "Hello John"
        async with Client(**town.parts(tls("stranger"), Auth())) as stranger:
            with pytest.raises(Forbidden, match=r"127\.0\.0\.1, stranger may not ask for 'Greeter\.Hello'"):
                await stranger.call("greeter", "Greeter.Hello", {"name": "John"}, str)
    assert town.seen == [("mailer", "127.0.0.1")]


async def test_a_subscriber_knows_the_publisher_by_its_certificate(tls: Any) -> None:
    town = Town()
    greeter = town.greeter(tls("greeter"), Auth())

    @greeter.subscriber("signed")
    async def signed(message: str, context: Context) -> None:
        ambient = current_context()
        assert ambient is not None
        town.seen.append((message, context.peer, ambient.peer))

    async with greeter:
        for name in ("mailer", "biller"):
            async with Client(**town.parts(tls(name), Auth())) as client:
                await client.publish("signed", f"from {name}", confirm=True)
    assert town.seen == [(f"from {name}", (name, "127.0.0.1"), (name, "127.0.0.1")) for name in ("mailer", "biller")]


async def test_a_message_needs_a_token_and_none_is_shown(
    tls: Any, caplog: pytest.LogCaptureFixture, authority: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    town, cert_only = Town(), Tls(ca=authority.file)
    auth = Auth(tokens={"mailer": digest(CANARY)}, allow={"*": ["mailer"]})
    own = tls("greeter")
    async with town.greeter(Tls(cert=own.cert, key=own.key, ca=own.ca), auth):
        async with Client(**town.parts(cert_only, Auth(token=CANARY))) as mailer:
            await mailer.publish("secured", "with a token", confirm=True)
            shown = [repr(mailer), str(vars(mailer))]
        registry = MemoryRegistry(network=town.network)
        async with registry, HttpBroker(registry, tls=cert_only, confirm_timeout=2, drain_timeout=0.1) as nobody:
            with pytest.raises(PublishError) as raised:
                await nobody.publish("secured", Message({b"Content-Type": b"application/json"}, b'"no"'), confirm=True)
            shown += [str(raised.value), repr(nobody)]
            shown += [repr(record) for form in Form for record in await registry.lookup(form.value)]
    shown += [caplog.text, *(str(vars(record)) for record in caplog.records)]
    assert town.seen == ["with a token"]
    assert "answered a batch with status 401" in caplog.text
    assert [text for text in shown if CANARY in text] == []


async def test_a_stranger_without_a_token_is_refused_at_both_ports(tls: Any, authority: Any) -> None:
    town, own = Town(), tls("greeter")
    auth = Auth(tokens={"mailer": digest(CANARY)}, allow={"*": ["mailer"]})
    trusting = ssl.create_default_context(cafile=authority.file)
    envelope = {
        "Header": {"Micro-Topic": "secured", "Content-Type": "application/json"},
        "Body": base64.b64encode(b'"hi"').decode(),
    }
    statuses = []
    async with town.greeter(Tls(cert=own.cert, key=own.key, ca=own.ca), auth) as service:
        async with MemoryRegistry(network=town.network) as registry:
            (record,) = await registry.lookup(Form.V2.value)
        (node,) = record.nodes
        async with httpx.AsyncClient(http2=True, verify=trusting, trust_env=False) as stranger:
            for headers in ({}, {"Authorization": "Bearer guess"}, {"Authorization": f"Bearer {CANARY}"}):
                answer = await stranger.post(
                    f"https://{node.address}/?id={node.id}", content=json.dumps(envelope), headers=headers
                )
                statuses.append(answer.status_code)
            call = {"Micro-Endpoint": "Greeter.Hello", "Content-Type": "application/json"}
            refused = await stranger.post(f"https://{service.address}/", json={"name": "x"}, headers=call)
    assert statuses == [401, 401, 200]
    assert json.loads(refused.headers["Micro-Error"])["code"] == Unauthorized.default_code
    assert town.seen == ["hi"]
