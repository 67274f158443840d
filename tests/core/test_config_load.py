"""Settings: which source goes before which, what is refused, and how."""

import logging
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micro_core import ConfigError
from micro_core.config import Settings, flags, load, parse_part


def loaded(*argv: str, code: Any = None, **environ: str) -> Settings:
    return load(code=code or {}, environ=environ, argv=argv)


def refusal(*argv: str, code: Any = None, **environ: str) -> str:
    with pytest.raises(ConfigError) as refused:
        loaded(*argv, code=code, **environ)
    return refused.value.detail


WRITTEN = {
    **dict.fromkeys(("registry", "selector", "transport", "broker", "client", "server", "codec"), ("one", "other")),
    **dict.fromkeys(("registry_address", "transport_address", "broker_address", "server_address"), ("a:1", "b:2")),
    **dict.fromkeys(("server_name", "server_version", "server_id", "proxy"), ("one", "other")),
    **dict.fromkeys(("server_advertise", "proxy_address"), ("10.0.0.1:1", "10.0.0.2:2")),
    **dict.fromkeys(("register_ttl", "client_pool_ttl", "loop_warning", "linger", "drain_timeout"), ("90", "2m")),
    **dict.fromkeys(("register_interval", "client_request_timeout"), ("500ms", "2s")),
    **dict.fromkeys(("limit_header_seconds", "limit_idle_seconds"), ("90", "2m")),
    **dict.fromkeys(("limit_body", "limit_headers", "limit_calls"), ("90", "200")),
    **dict.fromkeys(("limit_calls_in_progress", "limit_bytes_in_flight"), ("90", "200")),
    **dict.fromkeys(("client_retries", "client_pool_size", "workers"), ("3", "4")),
    **dict.fromkeys(("propagate", "extensions", "plugins_allow", "plugins_block"), ("one", "one,other")),
    **dict.fromkeys(("tls_cert", "tls_key", "tls_ca", "tls_client_ca", "tls_server_name"), ("one", "other")),
    "tls_pin": ("one", "one,other"),
    **dict.fromkeys(("tls_insecure_skip_verify", "require_tls"), ("true", "false")),
    "server_metadata": ("a=1", "a=1,b=2"),
    "config": ("", ""),
}
"""For each setting two values, the first not its default."""


def without_sources(settings: Settings) -> list[str]:
    """Return all values, as texts without where they were written."""
    return [
        re.sub(r" from (flag|variable|file|argument) [^>]*>", ">", f"{value!r}")
        for value in msgspec.structs.astuple(settings)
    ][:-1]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "micro.toml"


def test_defaults_are_those_of_the_documentation() -> None:
    settings = loaded()

    assert [str(getattr(settings, kind)) for kind in ("registry", "transport", "broker", "selector")] == [
        "mdns", "http", "http", "random",
    ]  # fmt: skip
    assert [str(part) for part in settings.codec] == ["json", "bytes", "proto"]
    assert (str(settings.client), str(settings.server)) == ("rpc", "rpc")
    assert (settings.server_address, settings.register_ttl, settings.register_interval) == ("127.0.0.1:0", 60.0, 30.0)
    assert (settings.client_request_timeout, settings.client_retries, settings.client_pool_size) == (5.0, 1, 100)
    assert settings.source("server_name") == settings.registry.source == "default"


def test_flag_goes_before_variable_before_file_before_code(file: Path) -> None:
    everywhere = {"registry": "code", "server_name": "code", "server_id": "code", "server_version": "code"}
    file.write_text('registry = "file"\nserver_name = "file"\nserver_id = "file"\n')

    settings = loaded(
        "--registry", "flag", code=everywhere,
        MICRO_CONFIG=str(file), MICRO_REGISTRY="variable", MICRO_SERVER_NAME="variable",
    )  # fmt: skip

    assert settings.registry == parse_part("registry", "flag", "flag --registry")
    assert (settings.server_name, settings.source("server_name")) == ("variable", "variable MICRO_SERVER_NAME")
    assert (settings.server_id, settings.source("server_id")) == ("file", f"file {file}")
    assert (settings.server_version, settings.source("server_version")) == ("code", "argument version=")


@pytest.mark.parametrize(
    "argv", [("--server_name", "x"), ("--server_name=x",), ("--server-name", "x"), ("--server-name=x",)]
)
def test_flag_has_go_micros_spelling_and_the_usual_one(argv: tuple[str, ...]) -> None:
    assert loaded(*argv).server_name == "x"


def test_all_values_are_read_from_variables() -> None:
    settings = loaded(
        MICRO_REGISTER_TTL="90", MICRO_REGISTER_INTERVAL="45s", MICRO_CLIENT_REQUEST_TIMEOUT="500ms",
        MICRO_CLIENT_RETRIES="3", MICRO_CLIENT_POOL_SIZE="7", MICRO_CLIENT_POOL_TTL="1m",
        MICRO_SERVER_METADATA="a=1, b=x=y", MICRO_PROPAGATE="X-Tenant,X-User", MICRO_EXTENSIONS="otel, auth",
        MICRO_PLUGINS_ALLOW="a,b", MICRO_PLUGINS_BLOCK="c", MICRO_CODEC="json,proto", MICRO_SERVER_ADVERTISE="a:1",
    )  # fmt: skip

    assert (settings.register_ttl, settings.register_interval, settings.client_request_timeout) == (90.0, 45.0, 0.5)
    assert (settings.client_retries, settings.client_pool_size, settings.client_pool_ttl) == (3, 7, 60.0)
    assert dict(settings.server_metadata) == {"a": "1", "b": "x=y"}
    assert settings.propagate == ("X-Tenant", "X-User")
    assert [extension.name for extension in settings.extensions] == ["otel", "auth"]
    assert (settings.plugins_allow, settings.plugins_block) == (("a", "b"), ("c",))
    assert [part.name for part in settings.codec] == ["json", "proto"]
    assert settings.server_advertise == "a:1"


def test_file_holds_numbers_lists_and_tables(file: Path) -> None:
    file.write_text(
        'client_retries = 2\nregister_ttl = "2m"\ncodec = ["json", "x://?a=1,2"]\n[server_metadata]\na = "1"\n'
    )

    settings = loaded("--config", str(file))

    assert (settings.client_retries, settings.register_ttl) == (2, 120.0)
    assert settings.codec[1].options == {"a": "1,2"}
    assert settings.server_metadata == {"a": "1"}


def test_repeated_flag_adds_to_a_list() -> None:
    settings = loaded("--server_metadata", "a=1", "--server_metadata", "b=2", "--extensions=x,y", "--extensions=z")

    assert settings.server_metadata == {"a": "1", "b": "2"}
    assert [extension.name for extension in settings.extensions] == ["x", "y", "z"]


def test_default_codecs_are_optional_and_named_ones_are_not() -> None:
    assert [part.optional for part in loaded().codec] == [True, True, True]
    assert [part.optional for part in loaded(MICRO_CODEC="json").codec] == [False]


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "config"])
def test_every_setting_is_read_from_each_source_and_the_highest_wins(name: str, file: Path) -> None:
    lower, higher = WRITTEN[name]
    file.write_text(f'{name} = "{lower}"')
    variable, config = {f"MICRO_{name.upper()}": lower}, {"MICRO_CONFIG": str(file)}
    default, wanted = loaded(), loaded(f"--{name}={higher}")

    for settings in (
        loaded(f"--{name}", lower),
        loaded(f"--{name.replace('_', '-')}={lower}"),
        loaded(**variable),
        loaded(**config),
        loaded(code={name: lower}),
    ):
        assert settings != default
        assert settings != wanted
        assert name in settings.sources
    assert without_sources(loaded(f"--{name}={higher}", **variable)) == without_sources(wanted)
    assert without_sources(loaded(**{f"MICRO_{name.upper()}": higher}, **config)) == without_sources(wanted)
    file.write_text(f'{name} = "{higher}"')
    assert without_sources(loaded(code={name: lower}, **config)) == without_sources(wanted)


def test_each_setting_is_tried() -> None:
    assert {action.dest for action in flags()._actions if action.dest != "help"} == {
        f"micro_{name}" for name in WRITTEN
    }


@pytest.mark.parametrize("blank", ["", " ", "\t "])
def test_blank_variable_says_nothing(blank: str) -> None:
    assert loaded(MICRO_REGISTRY=blank, MICRO_CONFIG=blank, MICRO_CLIENT_RETRIES=blank) == loaded()


@pytest.mark.parametrize("registry", ["", " "])
def test_blank_part_in_a_flag_or_in_code_is_refused(registry: str) -> None:
    assert "registry '' (from flag --registry): it is empty" in refusal("--registry", registry)
    assert "registry '' (from argument registry=): it is empty" in refusal(code={"registry": registry})


def test_spaces_around_a_value_are_not_part_of_it() -> None:
    settings = loaded(MICRO_REGISTRY=" memory\n", MICRO_SERVER_NAME=" greeter ", MICRO_CODEC=" json , bytes")

    assert (settings.registry.name, settings.server_name) == ("memory", "greeter")
    assert [part.name for part in settings.codec] == ["json", "bytes"]


@pytest.mark.parametrize("address", [":0", ":8080", "127.0.0.1:0", "[::1]:8080", "localhost:8080", ":5000-6000"])
def test_address_to_listen_at_has_the_forms_of_go_micro_and_is_none_of_the_server_part(address: str) -> None:
    settings = loaded(MICRO_SERVER_ADDRESS=address)

    assert settings.server_address == address
    assert settings.server.addresses == ()


def test_flag_names_the_file_before_the_variable_does(file: Path) -> None:
    file.write_text('server_name = "from the flag"')

    assert loaded("--config", str(file), MICRO_CONFIG="/nowhere").server_name == "from the flag"


def test_none_in_code_and_an_empty_variable_say_nothing() -> None:
    assert loaded(code={"registry": None, "server_name": "greeter"}, MICRO_SERVER_NAME="") == loaded(
        code={"server_name": "greeter"}
    )


def test_go_micros_names_for_the_defaults_are_understood() -> None:
    settings = loaded("--server", "mucp", MICRO_SELECTOR="registry", MICRO_CLIENT="mucp")

    assert (settings.selector.name, settings.client.name, settings.server.name) == ("random", "rpc", "rpc")
    assert settings.selector.source == "variable MICRO_SELECTOR"


def test_address_is_given_separately_as_in_go_micro() -> None:
    settings = loaded(
        MICRO_REGISTRY="etcd://old:1/prefix?x=1", MICRO_REGISTRY_ADDRESS="a:1, [::1]:2",
        MICRO_TRANSPORT_ADDRESS=":3", MICRO_BROKER_ADDRESS="b:4",
    )  # fmt: skip

    assert str(settings.registry) == "etcd://a:1,[::1]:2/prefix?x=1"
    assert settings.transport.addresses == (":3",)
    assert (settings.broker.addresses, settings.broker.source) == (("b:4",), "variable MICRO_BROKER_ADDRESS")


def test_address_of_a_lower_source_does_not_replace_that_of_a_flag() -> None:
    assert loaded("--registry=etcd://a:1", MICRO_REGISTRY_ADDRESS="b:2").registry.addresses == ("a:1",)
    assert loaded("--registry=etcd", MICRO_REGISTRY_ADDRESS="b:2").registry.addresses == ("b:2",)


def test_proxy_may_be_an_address() -> None:
    settings = loaded(MICRO_PROXY="10.0.0.1:8080")

    assert (settings.proxy, settings.proxy_address) == ("", "10.0.0.1:8080")


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({"MICRO_CLIENT_RETRIES": "many"}, ["client_retries=many", "a whole number"]),
        ({"MICRO_CLIENT_RETRIES": "-1"}, ["client_retries=-1", "not less than 0"]),
        ({"MICRO_WORKERS": "99999999999"}, ["workers=99999999999", "not more than 1000"]),
        ({"MICRO_CLIENT_REQUEST_TIMEOUT": "0"}, ["client_request_timeout=0", "more than 0"]),
        ({"MICRO_CLIENT_REQUEST_TIMEOUT": "soon"}, ["client_request_timeout=soon", "500ms"]),
        ({"MICRO_REGISTER_INTERVAL": "0"}, ["register_interval=0", "more than 0"]),
        ({"MICRO_SERVER_METADATA": "abc"}, ["server_metadata=abc", "key=value"]),
        ({"MICRO_SERVER_METADATA": "a=1,a=2"}, ["server_metadata=a=1,a=2", "each key once"]),
        ({"MICRO_CODEC": "json,bytes,json"}, ["codec=json,bytes,json", "each item once"]),
        ({"MICRO_CODEC": "json,json@micro-core"}, ["codec=json,json@micro-core", "each codec once"]),
        ({"MICRO_CLIENT_REQUEST_TIMEOUT": "1e300"}, ["client_request_timeout=1e300", "not more than 9e+09"]),
        ({"MICRO_EXTENSIONS": "auth,auth"}, ["extensions=auth,auth", "each item once"]),
        ({"MICRO_PROPAGATE": "a b"}, ["propagate=a b", "names of headers, such as"]),
        ({"MICRO_PLUGINS_ALLOW": "a\x00b"}, ["plugins_allow=", "control characters"]),
        ({"MICRO_SERVER_NAME": "a\nb"}, ["server_name=", "control characters"]),
        ({"MICRO_CODEC": ","}, ["codec", "is empty", "json,bytes,proto"]),
        ({"MICRO_REGISTRY": "a b"}, ["registry 'a b'", "letters"]),
        ({"MICRO_SERVER_ADDRESS": "8080"}, ["server_address=8080", "host:port, such as"]),
        ({"MICRO_SERVER_ADDRESS": "host:http"}, ["server_address=host:http", "host:port, such as"]),
        ({"MICRO_BROKER_ADDRESS": "a:b:c"}, ["address 'a:b:c'", "host:port"]),
    ],
)
def test_wrong_value_is_named_with_its_source_and_what_is_valid(environ: dict[str, str], parts: list[str]) -> None:
    detail = refusal(**environ)

    assert f"variable {next(iter(environ))}" in detail
    assert [part for part in parts if part not in detail] == []


def test_a_list_is_shown_however_it_was_given() -> None:
    wanted = "codec=json,json (from flag --codec) is not valid; write each item once"
    assert refusal("--codec", "json", "--codec", "json") == wanted
    assert refusal(code={"codec": ["json", "json"]}) == wanted.replace("flag --codec", "argument codec=")


@pytest.mark.parametrize(
    "code",
    [
        {"client_retries": 1.5},
        {"client_retries": True},
        {"extensions": [1]},
        {"registry": 7},
        {"server_metadata": {"a": 1}},
        {"server_name": 5},
    ],
)
def test_wrong_type_in_code_is_refused(code: dict[str, Any]) -> None:
    argument = next(iter(code)).removeprefix("server_")

    assert f"(from argument {argument}=)" in refusal(code=code)


def test_unknown_names_in_code_and_file_are_refused_with_a_near_miss(file: Path) -> None:
    file.write_text("client_retreis = 1")

    assert "unknown setting 'registy'; did you mean 'registry'?" in refusal(code={"registy": "x"})
    assert f"file {file}: unknown setting 'client_retreis'; did you mean 'client_retries'?" in refusal(
        MICRO_CONFIG=str(file)
    )


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", None])
def test_file_that_cannot_be_read_is_named(file: Path, content: bytes | None) -> None:
    if content is not None:
        file.write_bytes(content)

    assert f"file '{file}' (from variable MICRO_CONFIG) cannot be read" in refusal(MICRO_CONFIG=str(file))


def test_flags_of_the_program_are_left_alone() -> None:
    assert loaded("run", "--verbose", "--port=1", "--server_name", "x", "--", "--server_nmae").server_name == "x"


@pytest.mark.parametrize("flag", ["--server_nmae", "--server-nmae=x", "--regsitry"])
def test_misspelt_flag_is_refused_with_a_near_miss(flag: str) -> None:
    assert "did you mean --" in refusal(flag, "x")


def test_flag_without_its_value_is_refused() -> None:
    assert "expected one argument" in refusal("--server_name")


def test_flag_is_not_abbreviated() -> None:
    assert str(loaded("--reg", "y").registry) == "mdns"


def test_program_adds_flags_of_its_own() -> None:
    parser = flags()
    parser.add_argument("--mine")
    argv = ["--mine", "1", "--server_name", "x"]

    assert parser.parse_args(argv).mine == "1"
    assert loaded(*argv).server_name == "x"


def test_misspelt_variable_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    loaded(MICRO_REGISTY="x")

    assert "variable MICRO_REGISTY is not known; did you mean MICRO_REGISTRY?" in caplog.text


@pytest.mark.parametrize("name", ["MICRO_RUNTIME", "MICRO_AUTH_PUBLIC_KEY", "MICRO_PLUGIN", "MICRO_STORE_ADDRESS"])
def test_variable_that_only_go_micro_knows_is_ignored(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert loaded(**{name: "x"}) == loaded()

    assert caplog.text == ""


def test_interval_follows_a_shorter_ttl() -> None:
    assert loaded(MICRO_REGISTER_TTL="20").register_interval == 10.0
    assert loaded(MICRO_REGISTER_TTL="0").register_interval == 30.0
    assert "register_ttl=20 (from variable MICRO_REGISTER_TTL)" in refusal(
        "--register_interval=20", MICRO_REGISTER_TTL="20"
    )


def test_repr_hides_secrets() -> None:
    settings = loaded(
        MICRO_REGISTRY="etcd://u:hunter2@h",
        MICRO_SERVER_METADATA="api_key=hunter2",
        MICRO_PROXY_ADDRESS="u:hunter2@p:1",
    )

    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(settings.__rich_repr__())


@given(
    st.sampled_from(
        [
            "MICRO_REGISTRY",
            "MICRO_REGISTRY_ADDRESS",
            "MICRO_CODEC",
            "MICRO_REGISTER_TTL",
            "MICRO_CLIENT_RETRIES",
            "MICRO_SERVER_METADATA",
            "MICRO_PROXY",
        ]
    ),
    st.text(max_size=40),
)
def test_any_text_in_a_variable_is_settings_or_a_config_error(name: str, text: str) -> None:
    detail = f"variable {name}"
    try:
        loaded(**{name: text})
    except ConfigError as error:
        detail = error.detail
    assert f"variable {name}" in detail
