"""The parts of a service or client: texts and objects, what is installed and what is registered in code."""

import inspect
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from micro_core import (
    Client,
    Codec,
    ConfigError,
    Limits,
    Node,
    PluginError,
    PluginHost,
    PluginNotFound,
    Registry,
    Selector,
    Service,
    Tls,
    Transport,
    hookimpl,
    hookspecs,
)
from micro_core._app.assembly import Parts, load_parts
from micro_core._plugins.arguments import ARGUMENTS
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.memory.transport import MemoryTransport
from micro_core.config import Settings, load
from micro_core.testing import make_part, world

pytestmark = pytest.mark.anyio

DISTRIBUTIONS_OF_DEFAULTS = "micro-codec-proto,micro-transport-http,micro-broker-http,micro-registry-mdns"
BUILT_IN_CODECS = {"json", "json-rpc", "bytes"}


class FirstSelector(Selector):
    name = "first"

    def select(self, service: str, nodes: Sequence[Node]) -> Node:
        return nodes[0]


class First:
    @hookimpl
    def make_selector(self) -> Selector:
        return FirstSelector()


@pytest.fixture
def host() -> PluginHost:
    host = PluginHost()
    host.register("selector", "first", First())
    return host


def parts(plugins: PluginHost | None = None, **given: Any) -> Parts:
    in_memory = {"server_name": "greeter", "registry": "memory", "transport": "memory", "broker": "memory"}
    return load_parts({**in_memory, **given}, plugins=plugins)


def json() -> Codec:
    codec = make_part("codec", "json")[0]
    assert isinstance(codec, Codec)
    return codec


async def test_codec_may_be_an_instance() -> None:
    codec = json()

    assert parts(codec=codec).codecs == (codec,)


@pytest.mark.parametrize("kind", [list, tuple])
async def test_codecs_may_be_instances_and_names_in_any_order(kind: Any) -> None:
    codec = json()
    codecs = parts(codec=kind(["bytes", codec])).codecs

    assert [one.name for one in codecs] == ["bytes", "json"]
    assert codecs[1] is codec
    assert {one.name for one in parts(codec=kind(["bytes", "json"])).codecs} == BUILT_IN_CODECS


async def test_instances_of_codecs_are_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_CODEC", "bytes")
    codec = json()

    assert parts(codec=[codec]).codecs == (codec,)
    assert parts(codec="json").codecs != (codec,)


async def test_instance_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_SELECTOR", "nonsense")
    selector = FirstSelector()

    assert parts(selector=selector).selector is selector


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"codec": []}, "codec (from argument codec=) is empty"),
        ({"codec": ["json", 3]}, "argument codec= takes a configuration string or a Codec, not an object of type int"),
        ({"registry": ["memory", 3]}, "argument registry= takes a configuration string or a Registry, not an object"),
        ({"registry": MemoryRegistry}, "make an instance: registry=MemoryRegistry(…)"),
        ({"server_version": 3}, "server_version=3 (from argument version=) is not valid"),
    ],
)
async def test_wrong_argument_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parts(**given)

    assert told in refused.value.detail


async def test_default_codec_that_is_kept_out_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_PLUGINS_BLOCK", DISTRIBUTIONS_OF_DEFAULTS)
    assert {one.name for one in parts().codecs} == BUILT_IN_CODECS

    monkeypatch.delenv("MICRO_PLUGINS_BLOCK")
    monkeypatch.setenv("MICRO_PLUGINS_ALLOW", "nobody")
    assert {one.name for one in parts().codecs} == BUILT_IN_CODECS


async def test_codec_that_is_named_has_to_be_there() -> None:
    with pytest.raises(PluginNotFound, match=r"codec 'nonsense' not found; .*from argument codec="):
        parts(codec="json,nonsense")


@pytest.mark.parametrize("kind", ["registry", "transport"])
async def test_default_that_cannot_be_used_stops_the_start(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_PLUGINS_ALLOW", "nobody")

    with pytest.raises(PluginError, match=rf"^{kind} '.*from default"):
        parts(**{kind: None})


async def test_default_broker_is_not_missed_until_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_PLUGINS_ALLOW", "nobody")

    async with world() as here, here.client(broker=None) as client:
        with pytest.raises(PluginError, match=r"broker 'http' .*from default"):
            await client.publish("greetings", {})


@pytest.mark.parametrize("broker", ["nonsense", "memory://?colour=red"])
async def test_broker_that_was_chosen_is_checked_at_the_start(broker: str) -> None:
    with pytest.raises((PluginError, ConfigError), match="from argument broker="):
        parts(broker=broker)


async def test_extension_that_is_missing_is_told_with_where_it_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginNotFound, match=r"extension 'otel' not found.*from argument extensions="):
        parts(extensions=["otel"])
    monkeypatch.setenv("MICRO_EXTENSIONS", "audit")
    with pytest.raises(PluginNotFound, match=r"extension 'audit' not found.*from variable MICRO_EXTENSIONS"):
        parts(extensions=["otel"])


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MICRO_CLIENT_POOL_SIZE", "3"), ("MICRO_CLIENT_POOL_TTL", "1m"), ("MICRO_TLS_CERT", "secret.pem")],
)
async def test_a_setting_that_no_part_takes_is_refused(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError) as refused:
        parts()
    setting = variable.removeprefix("MICRO_").lower()
    assert f"{setting} (from variable {variable}) would be lost, for it is no setting of" in refused.value.detail
    assert "transport 'memory' of micro-core" in refused.value.detail
    assert "from argument transport=" in refused.value.detail
    assert value not in refused.value.detail


async def test_a_setting_reaches_the_part_that_takes_it(host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []

    class Pooled:
        @hookimpl
        def make_transport(self, pool_size: int, tls: Tls) -> Transport:
            taken.append((pool_size, tls.ca))
            return MemoryTransport()

    host.register("transport", "pooled", Pooled())
    monkeypatch.setenv("MICRO_CLIENT_POOL_SIZE", "3")
    monkeypatch.setenv("MICRO_TLS_CA", "ca.pem")
    parts(host, transport="pooled")
    assert taken == [(3, "ca.pem")]


async def test_a_part_made_by_the_program_decides_itself_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_CLIENT_POOL_SIZE", "3")
    transport = MemoryTransport()

    assert parts(transport=transport).transport is transport


async def test_every_argument_of_the_table_is_one_of_its_hook_and_every_setting_exists() -> None:
    settings = Settings.__struct_fields__
    for kind, arguments in ARGUMENTS.items():
        taken = inspect.signature(getattr(hookspecs, f"make_{kind}")).parameters
        assert arguments.keys() <= taken.keys()
        assert {name for one in arguments.values() for name in one.settings} <= set(settings)
    assert [name for name in Limits.__struct_fields__ if f"limit_{name}" not in settings] == []
    assert load(environ={}).limits == Limits()


class Plain:
    """A registry with a server, which knows nothing of TLS."""

    @hookimpl
    def make_registry(self, address: Sequence[str]) -> Registry:
        return MemoryRegistry()


@pytest.mark.parametrize("address", ["127.0.0.1:2379", "[::1]:2379", "user:secret@127.0.0.1:2379"])
async def test_clear_text_within_this_machine_is_let_be(
    address: str, host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.register("registry", "plain", Plain())
    monkeypatch.setenv("MICRO_REQUIRE_TLS", "1")

    assert isinstance(parts(host, registry=f"plain://{address}").registry, MemoryRegistry)


async def test_clear_text_of_any_kind_is_refused_where_tls_is_required(
    host: PluginHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.register("registry", "plain", Plain())
    monkeypatch.setenv("MICRO_REQUIRE_TLS", "1")

    with pytest.raises(
        ConfigError, match=r"registry 'plain' .* would speak clear text with .*10\.0\.0\.5:1"
    ) as refused:
        parts(host, registry="plain://127.0.0.1:1,user:secret@10.0.0.5:1")
    assert "secret" not in refused.value.detail


async def test_plugin_registered_in_code_is_selected_by_name(host: PluginHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_SELECTOR", "first")

    assert isinstance(parts(host).selector, FirstSelector)
    with pytest.raises(PluginNotFound):
        parts()


async def test_host_serves_many_services_and_keeps_nothing_of_one(host: PluginHost) -> None:
    class Tracing:
        @hookimpl(wrapper=True)
        def make_selector(self) -> Generator[None, Selector, Selector]:
            wrapped.append((yield))
            return wrapped[-1]

    wrapped: list[Selector] = []
    host.register("extension", "tracing", Tracing())

    parts(host, selector="first", extensions="tracing")
    parts(host, selector="first")
    assert len(wrapped) == 1


async def test_service_and_client_take_a_host(host: PluginHost) -> None:
    async with world():
        in_memory = {"registry": "memory", "transport": "memory", "broker": "memory"}
        async with (
            Service("greeter", **in_memory, selector="first", plugins=host),  # type: ignore[arg-type]
            Client(**in_memory, selector="first", plugins=host) as client,  # type: ignore[arg-type]
        ):
            assert await client.call("greeter", "Debug.Health", {}) == {"status": "ok"}


async def test_service_in_memory_listens_at_all_interfaces_as_go_micro_writes_it() -> None:
    async with world() as here, here.service("greeter", address=":0"), here.client() as client:
        assert await client.call("greeter", "Debug.Health", {}) == {"status": "ok"}
