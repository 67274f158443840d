"""docs/architecture.md names files that exist, every room, and the arrows that are checked."""

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w.-]+(?:/[\w.-]*)+|\.?[\w-]+\.(?:toml|md|importlinter)|\.importlinter)`", TEXT)))
PLACEHOLDERS = {"docs/K.md", "plugins/micro-K-NAME/", "plugins/micro-K-NAME/tests/", "tests/test_conformance.py"}
ROOMS = sorted(
    f"{package.relative_to(ROOT)}/"
    for top in [
        "micro_core",
        "plugins/micro-transport-http/micro_transport_http",
        "plugins/micro-broker-http/micro_broker_http",
        "plugins/micro-registry-mdns/micro_registry_mdns",
    ]
    for package in [ROOT / top, *(found.parent for found in (ROOT / top).glob("*/**/__init__.py"))]
)


def test_there_are_files_and_rooms_to_name() -> None:
    assert "micro_core/_calling/retry.py" in NAMED
    assert "micro_core/builtin/rpc/" in ROOMS


@pytest.mark.parametrize("path", [path for path in NAMED if path not in PLACEHOLDERS])
def test_what_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()
    assert (ROOT / path).is_dir() or not path.endswith("/")


@pytest.mark.parametrize("room", ROOMS)
def test_room_is_in_the_table(room: str) -> None:
    assert f"\n| `{room}` |" in TEXT


@pytest.mark.parametrize("package", ["micro_core", "micro_transport_http", "micro_broker_http", "micro_registry_mdns"])
def test_arrows_are_those_that_are_checked(package: str) -> None:
    linter = configparser.ConfigParser()
    linter.read(ROOT / ".importlinter", encoding="utf-8")
    contracts = [linter[name] for name in linter.sections()]
    (layers,) = [each["layers"].strip() for each in contracts if each.get("containers", "").strip() == package]

    assert f"\n`{package}`:\n\n```text\n{layers}\n```\n" in TEXT
