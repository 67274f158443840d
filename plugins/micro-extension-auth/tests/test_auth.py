"""Tokens and rules: who gets in, who does not, and that no token shows anywhere."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from micro_core import (
    Client,
    ConfigError,
    Context,
    Forbidden,
    MicroError,
    PluginError,
    PluginHost,
    Service,
    Tls,
    Unauthorized,
)
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.memory.transport import MemoryTransport
from micro_extension_auth import Auth, digest
from micro_extension_auth.files import AuthSettings

CANARY = "canary-6f1d0e-token"
OTHER = "other-9a7c31-token"
KNOWN = {"mailer": digest(CANARY), "gateway": f"sha256:{digest(OTHER)}"}


def asked(
    endpoint: str = "Greeter.Hello", token: str = "", peer: tuple[str, ...] = (), scheme: str = "Bearer"
) -> Context:
    headers = {b"Authorization": f"{scheme} {token}".encode()} if token else {}
    return Context(headers, endpoint=endpoint, peer=peer)


@pytest.mark.parametrize(
    "context",
    [
        asked(token=CANARY),
        asked(token=CANARY, scheme="bearer"),
        asked(token=OTHER),
        asked(peer=("10.0.0.5", "mailer")),
        asked("Debug.Health"),
        asked("Greeter.Other", token=CANARY),
        asked("orders", token=OTHER),
    ],
)
def test_who_is_allowed_gets_in(context: Context) -> None:
    rules = {
        "Greeter.Hello": ["mailer", "gateway"],
        "Greeter.*": ["mailer"],
        "Debug.Health": ["*"],
        "orders": ["gateway"],
    }
    Auth(tokens=KNOWN, allow=rules).check(context)


@pytest.mark.parametrize(
    ("context", "error", "text"),
    [
        (asked(), Unauthorized, "'Greeter.Hello' is for known callers"),
        (asked(token="guess"), Unauthorized, "the token is not known here"),
        (asked(token=CANARY[:-1]), Unauthorized, "the token is not known here"),
        (asked(token=CANARY, scheme="Basic"), Unauthorized, "of a kind that is not taken here"),
        (asked("Debug.Health", token="guess"), Unauthorized, "the token is not known here"),
        (asked("Greeter.Other", token=OTHER), Forbidden, "gateway may not ask for 'Greeter.Other'"),
        (asked("Other.Hello", token=CANARY), Forbidden, "mailer may not ask for 'Other.Hello'"),
        (asked("", token=CANARY), Forbidden, "mailer may not ask for what names no endpoint"),
        (asked(peer=("stranger",)), Forbidden, "stranger may not ask for 'Greeter.Hello'"),
    ],
)
def test_who_is_not_is_told_why(context: Context, error: type[MicroError], text: str) -> None:
    rules = {"Greeter.Hello": ["mailer", "gateway"], "Greeter.*": ["mailer"], "Debug.Health": ["*"]}
    with pytest.raises(error) as raised:
        Auth(tokens=KNOWN, allow=rules).check(context)
    assert text in str(raised.value)


def test_without_rules_whoever_has_a_name_gets_in() -> None:
    Auth().check(asked(peer=("anyone",)))
    Auth(tokens=KNOWN).check(asked("Any.Thing", token=CANARY))
    with pytest.raises(Unauthorized):
        Auth().check(asked())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[tokens]\nmailer = 'plain text'", "the token of 'mailer' is not given as its SHA-256"),
        ("[allow]\nx = 'mailer'", "allow 'x' is not valid"),
        ("[tokn]\n", "has tokn; its tables are tokens, allow and send"),
        ("tokens = 1", "are tables"),
        ("[send]\ntoken = 'x'", "the table send has token_file"),
        ("[send]\ntoken_file = 'none'", "none' cannot be read"),
        ("= no toml " + CANARY, "is no TOML"),
        ("[tokens]\n", "there is nothing to check and nothing to send"),
    ],
)
def test_a_wrong_file_is_one_sentence_without_what_it_holds(content: str, sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "auth.toml"
    file.write_text(content)
    with pytest.raises(ConfigError) as raised:
        AuthSettings(environ={"MICRO_AUTH_FILE": str(file)}).auth()
    assert sentence in str(raised.value)
    assert CANARY not in str(raised.value)
    assert "plain text" not in str(raised.value)


def test_a_file_names_tokens_rules_and_what_to_send(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{CANARY}\n")
    file = tmp_path / "auth.toml"
    file.write_text(f"[tokens]\nmailer = '{digest(CANARY)}'\n[allow]\n'*' = ['mailer']\n[send]\ntoken_file = 'token'\n")

    auth = AuthSettings(environ={"MICRO_AUTH_FILE": str(file)}).auth()

    auth.check(asked(token=CANARY))
    assert auth.credentials() == {"Authorization": f"Bearer {CANARY}"}
    assert repr(auth) == "<Auth 1 tokens, 1 rules, sends a token>"
    sent = AuthSettings(environ={"MICRO_AUTH_TOKEN": OTHER}).auth().credentials()
    assert sent == {"Authorization": f"Bearer {OTHER}"}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the files that were read as text."""
    seen: list[str] = []
    read = Path.read_text

    def read_and_note(path: Path, *arguments: Any, **options: Any) -> str:
        seen.append(path.name)
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_and_note)
    return seen


@pytest.mark.anyio
async def test_a_configuration_string_names_file_and_token_and_each_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    (tmp_path / "auth.toml").write_text(f"[tokens]\nmailer = '{digest(CANARY)}'\n")
    (tmp_path / "token,1").write_text(f"{CANARY}\n")
    text = f"auth://{tmp_path}/auth.toml?token_file={tmp_path}/token%2C1"
    monkeypatch.setenv("MICRO_EXTENSIONS", text)
    monkeypatch.setenv("MICRO_AUTH_FILE", "/nowhere/auth.toml")
    world = World()
    async with world.serving() as service:
        assert [name for name in reads if name in ("auth.toml", "token,1")] == ["auth.toml", "token,1"]
        assert await service.client.call("greeter", "Greeter.Hello", "John", str) == "Hello John"
        async with Client(**world.parts()) as client:
            assert await client.call("greeter", "Greeter.Hello", "Joan", str) == "Hello Joan"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("extensions", "sentence"),
    [
        ("auth", "there is nothing to check and nothing to send; name a file"),
        ("auth,auth", "each item once"),
        ("auth,auth@micro-extension-auth", "each extension once"),
        ("auth://?tokenfile=x", "has no option 'tokenfile'; did you mean 'token_file'?"),
        (f"auth://?token={CANARY}&token_file=x", "exclude each other"),
        (f"auth://?token={CANARY}%20", "holds characters that no header may hold"),
        ("auth://127.0.0.1:1", "takes no address"),
        ("auth:///nowhere/auth.toml", "auth file '/nowhere/auth.toml' cannot be read"),
        ("auht", "did you mean 'auth'?"),
    ],
)
async def test_an_extension_that_cannot_be_meant_stops_the_start(
    extensions: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MICRO_AUTH_FILE", "MICRO_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MICRO_EXTENSIONS", extensions)
    with pytest.raises((ConfigError, PluginError)) as refused:
        async with Client(**World().parts()):
            pass
    assert sentence in refused.value.detail
    assert CANARY not in refused.value.detail


def test_certificates_alone_are_asked_for_by_name() -> None:
    auth = AuthSettings(certificates=True, environ={}).auth()

    auth.check(asked(peer=("anyone",)))
    with pytest.raises(Unauthorized):
        auth.check(asked())


def host(auth: Auth | None) -> PluginHost:
    made = PluginHost()
    if auth is not None:
        made.register("extension", "auth", auth)
    return made


class World:
    """One service that asks for tokens, and clients with tokens of their own."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.handled: list[Any] = []
        self.records: list[Any] = []

    def parts(self) -> dict[str, Any]:
        return {
            "registry": MemoryRegistry(network=self.network),
            "transport": MemoryTransport(network=self.network),
            "broker": "memory",
            "extensions": "auth",
        }

    @asynccontextmanager
    async def serving(self, auth: Auth | None = None) -> AsyncIterator[Service]:
        service = Service("greeter", plugins=host(auth), linger=0, **self.parts())

        @service.handler
        class Greeter:
            async def hello(_, request: str, context: Context) -> str:
                self.handled.append((request, repr(context), repr(context.metadata)))
                return f"Hello {request}"

            async def repeat(_, request: str) -> AsyncIterator[str]:
                self.handled.append(request)
                yield request

        @service.subscriber("greetings")
        async def greeted(message: str) -> None:
            self.handled.append(message)

        async with service:
            self.records = [repr(await MemoryRegistry(network=self.network).__aenter__())]
            yield service

    def client(self, token: str = "") -> Client:
        return Client(plugins=host(Auth(token=token)), **self.parts())


RULES = {"Greeter.Hello": ["mailer"], "Greeter.Repeat": ["mailer"], "greetings": ["mailer"]}


@pytest.mark.anyio
async def test_calls_and_streams_go_through_with_the_token_and_not_without() -> None:
    world = World()
    async with world.serving(Auth(tokens=KNOWN, allow=RULES)), world.client(CANARY) as known:
        assert await known.call("greeter", "Greeter.Hello", "John", str) == "Hello John"
        async with known.stream("greeter", "Greeter.Repeat", str) as stream:
            await stream.send("once")
            assert [reply async for reply in stream] == ["once"]
        before = len(world.handled)
        for token, error in (("", Unauthorized), ("guess", Unauthorized), (OTHER, Forbidden)):
            async with world.client(token) as stranger:
                with pytest.raises(error) as raised:
                    await stranger.call("greeter", "Greeter.Hello", "John", str)
                assert raised.value.executed == "no"
                async with stranger.stream("greeter", "Greeter.Repeat", str) as stream:
                    with pytest.raises(error):
                        await stream.receive()
        assert len(world.handled) == before


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"Authorization": f"Bearer {CANARY}", "Micro-Topic": "greetings"}, True),
        ({"Micro-Topic": "greetings"}, False),
        ({"Authorization": f"Bearer {OTHER}", "Micro-Topic": "greetings"}, False),
        # Neither of two names hides the other.
        ({"Authorization": f"Bearer {CANARY}", "Micro-Endpoint": "Debug.Health", "X-Micro-Topic": "greetings"}, False),
        ({"Authorization": f"Bearer {CANARY}", "Micro-Endpoint": "Debug.Health", "Micro-Topic": ""}, False),
        ({"Micro-Endpoint": "Greeter.Hello", "Micro-Error": "EOS"}, False),
    ],
)
async def test_messages_on_the_rpc_port_are_checked_too(headers: dict[str, str], passes: bool) -> None:
    from micro_core import Head, Node

    world = World()
    raw = {name.encode(): value.encode() for name, value in {"Content-Type": "application/json", **headers}.items()}
    async with world.serving(Auth(tokens=KNOWN, allow=RULES)) as service:
        async with MemoryTransport(network=world.network) as transport:
            channel = transport.connect(Node(id="n", address=service.address))
            reply = await channel.call(Head(raw), 1, {}, b'"news"', float("inf"))
            await channel.aclose()
    assert (world.handled == ["news"]) is passes
    assert (b"Micro-Error" in reply.headers) is not passes


@pytest.mark.anyio
async def test_no_token_shows_in_logs_reprs_errors_or_records(caplog: pytest.LogCaptureFixture) -> None:
    world, shown = World(), []
    caplog.set_level(logging.DEBUG)
    auth = Auth(tokens=KNOWN, allow=RULES, token=CANARY)
    async with world.serving(auth) as service, world.client(CANARY) as client:
        await client.call("greeter", "Greeter.Hello", "John", str)
        for endpoint, token in (("Greeter.Hello", "wrong-" + CANARY), ("Other.Thing", CANARY), ("Nobody", CANARY)):
            metadata = {"Authorization": f"Bearer {token}"}
            with pytest.raises(MicroError) as raised:
                await client.call("greeter", endpoint, "John", str, metadata=metadata)
            shown += [str(raised.value), repr(raised.value)]
        async with MemoryRegistry(network=world.network) as registry:
            shown.append(repr(await registry.lookup("greeter")))
        shown += [repr(each) for each in (auth, client, service, service.node, host(auth), vars(service))]
    shown += [caplog.text, *(str(vars(record)) for record in caplog.records), repr(world.handled)]

    assert [text for text in shown if CANARY in text] == []
    assert "greeter" in caplog.text


def test_tls_and_auth_are_told_apart() -> None:
    assert CANARY not in repr(Tls(cert=CANARY))


@pytest.mark.parametrize("endpoint", ["Debug.Stats", "Debug.Health"])
def test_what_a_service_tells_of_itself_is_closed_unless_a_rule_for_it_opens_it(endpoint: str) -> None:
    open_to_all = {"*": ["*"]}
    Auth(allow=open_to_all).check(asked("Greeter.Hello"))
    with pytest.raises(Unauthorized):
        Auth(allow=open_to_all).check(asked(endpoint))
    with pytest.raises(Forbidden):
        Auth(tokens=KNOWN, allow=open_to_all).check(asked(endpoint, token=CANARY))
    Auth(tokens=KNOWN, allow={"*": ["*", "mailer"]}).check(asked(endpoint, token=CANARY))
    Auth(allow={"*": ["*"], "Debug.*": ["*"]}).check(asked(endpoint))
