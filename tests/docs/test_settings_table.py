"""docs/configuration.md lists every setting, with the default that is used."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from micro_core.config import flags, load

PAGE = Path(__file__).parent.parent.parent / "docs" / "configuration.md"


def rows() -> Iterator[str]:
    defaults = load(environ={})
    for action in flags()._actions:
        name = action.dest.removeprefix("micro_")
        if name != "help":
            default = written(getattr(defaults, name, ""))
            yield f"| `--{name}` | `MICRO_{name.upper()}` | {default}| {action.help} |"


def written(value: Any) -> str:
    if isinstance(value, float):
        return f"`{value:g}s` "
    text = ",".join(map(str, value)) if isinstance(value, tuple | Mapping) else str(value)
    return f"`{text}` " if text else ""


def test_every_setting_is_listed_with_its_default() -> None:
    assert "\n".join(rows()) in PAGE.read_text(encoding="utf-8")
