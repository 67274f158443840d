"""No secret shows in any output: of configuration strings, well-formed or not, and of addresses with credentials."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from micro_core import ConfigError
from micro_core.address import advertised, port_range, split_address, split_literal
from micro_core.config import load, parse_part

NAMES = (
    *("token", "pass", "passphrase", "passwd", "password", "pw", "pwd", "bearer", "jwt", "sas", "secret", "api_key"),
    *("key", "credential", "auth", "private", "cookie", "signature", "db_pass", "userpass", "access-token", "X-Token"),
    *("TOKEN", "Pass", "tls_key", "sig", "sas_token"),
)
FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: f"x://h:1?{name}=SECRET",
    lambda name: f"x://h:1/p?a=1&{name}=SECRET&b=2",
    lambda name: f"x://h:1?{name}=SECRET&%zz",
    lambda name: f"x://h:1?%{ord(name[0]):x}{name[1:]}=SECRET&%zz",
    lambda name: f"x://h:1?%25{ord(name[0]):x}{name[1:]}=SECRET&%zz",
    lambda name: f"x?{name}=SECRET",
    lambda name: f"x://h:1?{name}=SECRET,SECRET;SECRET SECRET&{name}=SECRET",
)
CREDENTIALS = (
    "x://user:SECRET@h",
    "x://user:SECRET@h:1/p?a=1",
    "x://user:SEC/SECRET@h:1",
    "x://user:SEC?SECRET@h:1",
    "x://user:SECRET@h:99999",
    "x://user:SECRET@h,user:SECRET@i:1",
    "user:SECRET@h",
    "user:SECRET@h:1",
    "user:SEC@SECRET@h:x",
    ":SECRET@h:x",
    "u:SECRET@h:x",
    "user:SECRET@h?a=b",
)
STRINGS = [form(name) for name in NAMES for form in FORMS] + list(CREDENTIALS)


def test_there_are_as_many_as_an_attacker_tried() -> None:
    assert len(set(STRINGS)) >= 150


@pytest.mark.parametrize("text", STRINGS)
def test_no_secret_shows(text: str) -> None:
    shown = "\n".join(outputs(text))
    assert "SECRET" not in shown
    assert shown


def outputs(text: str) -> Iterator[str]:
    """Return whatever is printed of a text, wherever it was written."""
    try:
        yield repr(parse_part("registry", text, "flag --registry"))
    except ConfigError as error:
        yield str(error)
    for read in (split_address, split_literal, port_range, lambda bound: advertised(bound, "")):
        try:
            read(text)
        except ConfigError as error:
            yield str(error)
    for setting in ("registry", "transport", "proxy", "proxy_address", "server_address", "broker_address"):
        try:
            yield repr(load(code={}, argv=(), environ={f"MICRO_{setting.upper()}": text}))
        except ConfigError as error:
            yield str(error)


def test_what_is_no_secret_shows() -> None:
    assert "timeout=2s&direction=n" in repr(parse_part("registry", "x://h?timeout=2s&direction=n", "test"))
    with pytest.raises(ConfigError, match="verbose=on"):
        parse_part("registry", "x://h?verbose=on&%zz", "test")


def test_a_file_that_nests_beyond_all_bounds_is_a_config_error(tmp_path: Path) -> None:
    file = tmp_path / "micro.toml"
    file.write_text("a=" + "[" * 100_000)
    with pytest.raises(ConfigError, match=r"micro\.toml"):
        load(code={}, argv=(), environ={"MICRO_CONFIG": str(file)})
