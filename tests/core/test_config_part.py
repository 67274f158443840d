"""Configuration strings: the grammar, both ways, and what is never shown."""

import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from micro_core import ConfigError
from micro_core.config import Part, parse_part

NAME = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9_])?", fullmatch=True)
HOST = st.one_of(
    st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True),
    st.sampled_from(["[::1]", "[fe80::1%eth0]", "user:pass@host", "10.0.0.5"]),
)
ADDRESS = st.builds(lambda host, port: f"{host}:{port}", HOST, st.integers(0, 65535))
PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.builds(
    Part,
    kind=st.just("registry"),
    name=NAME,
    distribution=st.one_of(st.just(""), NAME),
    addresses=st.lists(ADDRESS, max_size=3).map(tuple),
    path=st.one_of(st.just(""), PRINTABLE.map("/{}".format)),
    options=st.dictionaries(ANY_TEXT.filter(bool), ANY_TEXT, max_size=3),
    source=st.just("test"),
)


def parsed(text: str) -> Part:
    return parse_part("registry", text, "flag --registry")


@given(PARTS)
def test_part_written_as_text_is_read_back(part: Part) -> None:
    assert parse_part("registry", str(part), "test") == part


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("@:/?&=,%[]" + string.ascii_letters)), max_size=60))
def test_any_text_is_a_part_or_a_config_error(text: str) -> None:
    try:
        part = parsed(text)
    except ConfigError:
        return
    assert parsed(str(part)) == part


def test_everything_at_once() -> None:
    part = parsed("my_registry@micro-registry-mine://a:1,[::1]:2,:3/some/path?ttl=30s&q=a%26b%20c+d")

    assert part == Part(
        kind="registry",
        name="my_registry",
        distribution="micro-registry-mine",
        addresses=("a:1", "[::1]:2", ":3"),
        path="/some/path",
        options={"ttl": "30s", "q": "a&b c+d"},
        source="flag --registry",
    )


@pytest.mark.parametrize(
    ("text", "addresses", "path", "options"),
    [
        ("mdns", (), "", {}),
        ("mdns://", (), "", {}),
        ("mdns://?dialects=dns-sd,gomicro", (), "", {"dialects": "dns-sd,gomicro"}),
        ("static:///etc/micro/nodes.toml", (), "/etc/micro/nodes.toml", {}),
        ("static://?greeter=10.0.0.5:8080,10.0.0.6:8080", (), "", {"greeter": "10.0.0.5:8080,10.0.0.6:8080"}),
        ("etcd://host:2379,host2:2379/prefix?ttl=30", ("host:2379", "host2:2379"), "/prefix", {"ttl": "30"}),
        ("x://?a=b?c=d", (), "", {"a": "b?c=d"}),
        ("x://?a=", (), "", {"a": ""}),
    ],
)
def test_documented_forms(text: str, addresses: tuple[str, ...], path: str, options: dict[str, str]) -> None:
    part = parsed(text)

    assert (part.addresses, part.path, dict(part.options)) == (addresses, path, options)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "name"),
        ("-x", "name"),
        ("a b", "name"),
        ("x@", "distribution"),
        ("x@../y", "form"),
        ("x?a=b", "form"),
        ("x:/a", "form"),
        ("x://a,,b", "address is empty"),
        ("x://a:b:c", "IPv6 address stands in brackets"),
        ("x://::1", "IPv6 address stands in brackets"),
        ("x://a:99999", "65535"),
        ("x://?a", "key=value"),
        ("x://?=a", "key=value"),
        ("x://?a=1&&b=2", "key=value"),
        ("x://?a=1&a=2", "twice"),
        ("x://?a=%zz", "percent"),
        ("x://?a=%ff", "UTF-8"),
        ("x://a\n", "control character"),
        ("x:///%00", "control character"),
        ("x" * 70_000, "longer"),
    ],
)
def test_malformed_text_is_refused_with_source_reason_and_grammar(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(text)

    assert why in refused.value.detail
    assert "(from flag --registry)" in refused.value.detail
    assert "name[@distribution]" in refused.value.detail
    assert len(refused.value.detail) < 500


@pytest.mark.parametrize(
    "text",
    [
        "etcd://user:hunter2@host:1,user:hunter2@host:2",
        "etcd://hunter2@host",
        "etcd://host?api_key=hunter2&x=1",
        "etcd://host?PASSWORD=hunter2",
        "etcd://host?auth-token=a%26hunter2",
    ],
)
def test_repr_hides_secrets(text: str) -> None:
    part = parsed(text)

    assert "hunter2" not in repr(part)
    assert "hunter2" not in repr(part.__rich_repr__())
    assert "***" in repr(part)
    assert "hunter2" in str(part)


@pytest.mark.parametrize(
    "text",
    [
        "etcd://user:hunter2/x@host:1",
        "etcd://user:123/hunter2@host:1",
        "etcd://user:123?x=hunter2@host:1",
        "etcd://a:hunter2@",
        "etcd?token=hunter2",
        "etcd://h?token=hunter2%",
        "e://[?secret=hunter2",
    ],
)
def test_errors_hide_secrets(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(text)

    assert "hunter2" not in refused.value.detail
    assert refused.value.__cause__ is None


@given(st.from_regex(r"[a-z]{1,10}", fullmatch=True), st.from_regex(r"[A-Za-z0-9:/?=,%-]{6,12}", fullmatch=True))
@example("a", "00000/")
@example("a", "1?x=")
@example("a", "00000,")
def test_password_is_hidden_however_the_text_is_malformed(user: str, password: str) -> None:
    assume(password not in f"etcd://{user}:***@host" and password not in "name[@distribution][://[address[,address…]]")
    try:
        shown = repr(parsed(f"etcd://{user}:{password}@host"))
    except ConfigError as error:
        shown = error.detail
    assert password not in shown
