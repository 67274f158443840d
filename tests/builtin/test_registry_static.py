"""The static registry: nodes written in the configuration string or in a file."""

from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import SYNC, Change, ChangeKind, ConfigError, Endpoint, Node, Record
from micro_core.builtin.registry_static import StaticRegistry, read_addresses, read_file
from micro_core.testing import make_part

WHOLE = """
[[service]]
name = "greeter"
version = "1.2.0"
metadata = { team = "hello" }
nodes = [
    { id = "greeter-1", address = "10.0.0.5:8080", metadata = { protocol = "mucp" } },
    { address = "[fd00::6]:8080" },
]
endpoints = [{ name = "Greeter.Hello", metadata = { idempotent = "true" } }]
"""


@pytest.mark.anyio
async def test_a_configuration_string_names_services_and_nodes() -> None:
    async with make_part("registry", "static://?greeter=10.0.0.5:8080,10.0.0.6:8080&mailer=[fd00::5]:9000") as registry:
        assert await registry.services() == ["greeter", "mailer"]
        (greeter,) = await registry.lookup("greeter")
        assert [(node.address, node.metadata) for node in greeter.nodes] == [
            ("10.0.0.5:8080", {}),
            ("10.0.0.6:8080", {}),
        ]


@pytest.mark.anyio
async def test_a_file_holds_whole_records(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(WHOLE)
    async with make_part("registry", f"static://{tmp_path}/nodes.toml") as registry:
        assert await registry.lookup("greeter") == [
            Record(
                name="greeter",
                version="1.2.0",
                metadata={"team": "hello"},
                nodes=(
                    Node(id="greeter-1", address="10.0.0.5:8080", metadata={"protocol": "mucp"}),
                    Node(id="greeter-[fd00::6]:8080", address="[fd00::6]:8080"),
                ),
                endpoints=(Endpoint(name="Greeter.Hello", metadata={"idempotent": "true"}),),
            )
        ]


@pytest.mark.anyio
async def test_what_is_registered_is_accepted_and_not_found() -> None:
    async with StaticRegistry([]) as registry:
        await registry.register(Record(name="a", version="1", nodes=(Node(id="a", address="127.0.0.1:1"),)))
        assert await registry.services() == []


@pytest.mark.anyio
async def test_a_watch_tells_what_is_written_down_and_then_waits_until_the_registry_closes() -> None:
    record = Record(name="a", version="1", nodes=(Node(id="a", address="127.0.0.1:1"),))
    async with StaticRegistry([record]) as registry, registry.watch() as changes:
        assert [await anext(changes), await anext(changes)] == [Change(kind=ChangeKind.CREATE, record=record), SYNC]
        with anyio.move_on_after(0.05) as scope:
            await anext(changes)
        assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("static", "no nodes are named"),
        ("static://10.0.0.5:8080", "10.0.0.5:8080 belongs to no service"),
        ("static://?greeter=10.0.0.256:8080", "'10.0.0.256:8080' is not valid"),
        ("static://?greeter=-orders:8080", "'-orders:8080' is not valid"),
        ("static://?greeter=10.0.0.5", "'10.0.0.5' is no address"),
        ("static://?greeter=10.0.0.5:0", "port 0"),
        ("static://?greeter=10.0.0.5:8080,", "'' is no address"),
        ("static:///does/not/exist.toml", "/does/not/exist.toml cannot be read"),
    ],
)
def test_a_wrong_configuration_names_the_value_and_what_is_valid(text: str, says: str) -> None:
    with pytest.raises(Exception, match="static registry") as raised:
        make_part("registry", text)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("service = 1", r"\$.service"),
        ("[[service]]\nname = 'a'", "nodes"),
        ("[[service]]\nname = 'a'\nnodes = [{ adress = '10.0.0.5:80' }]", "adress"),
        ("[[service]]\nname = 'a'\nnodes = [{ address = 'somewhere:http' }]", "somewhere"),
        ("[[service]]\nname = ''\nnodes = []", "empty name"),
        ("[[service]\n", "line 1"),
        ("[[service]]\nname = 'a'\nnodes = []\n" * 2, "twice"),
        ("[[service]]\nname = 'a'\nnodes = [{ address = '1.2.3.4:5' }, { address = '1.2.3.4:5' }]", "twice"),
    ],
)
def test_a_wrong_file_is_a_config_error_that_names_file_and_place(tmp_path: Path, written: str, says: str) -> None:
    (tmp_path / "nodes.toml").write_text(written)
    with pytest.raises(ConfigError, match=says) as raised:
        read_file(tmp_path / "nodes.toml")
    assert "nodes.toml" in str(raised.value)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=30), max_size=3))
def test_any_options_are_records_or_a_config_error(options: dict[str, str]) -> None:
    try:
        assert len(read_addresses(options)) == len(options)
    except ConfigError:
        pass


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["orders:8080", "orders.default.svc.cluster.local:80", "my_host:1", "orders.n-1"])
async def test_an_address_may_be_a_name_or_what_another_transport_connects_to(address: str) -> None:
    async with make_part("registry", f"static://?orders={address}") as registry:
        (record,) = await registry.lookup("orders")
    assert [node.address for node in record.nodes] == [address]
