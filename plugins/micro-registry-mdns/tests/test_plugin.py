"""The entry point."""

import pytest

from micro_core import ConfigError
from micro_registry_mdns.plugin import make_registry


def test_options_are_texts() -> None:
    options = {"interface": "127.0.0.1,10.0.0.5", "dialects": "gomicro", "timeout": "500ms"}
    made = make_registry(address=(), options=options)
    assert repr(made) == "<MdnsRegistry gomicro on 127.0.0.1,10.0.0.5, not opened>"


def test_nothing_has_to_be_set() -> None:
    assert repr(make_registry(address=(), options={})) == "<MdnsRegistry dns-sd+gomicro on all interfaces, not opened>"


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"interfaces": "127.0.0.1"}, "interface"), ({"timeout": "soon"}, "timeout"), ({"dialects": "both"}, "dns-sd")],
)
def test_wrong_options_are_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_registry(address=(), options=options)


def test_an_address_is_not_taken_for_an_interface_in_silence() -> None:
    with pytest.raises(ConfigError, match="interface="):
        make_registry(address=("127.0.0.1",), options={})
