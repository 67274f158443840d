"""The documentation names every error, with the code that it has."""

import re
from pathlib import Path

import pytest

from micro_core import MicroError, errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROWS = dict(re.findall(r"^\| (?:– )?`([A-Z]\w+)` \| ([^|]*?) ?\|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
CLASSES = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, MicroError) and value is not MicroError
]


def test_the_table_lists_every_error_and_no_other() -> None:
    assert set(ROWS) == {kind.__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_the_table_gives_the_code(kind: type[MicroError]) -> None:
    codes = re.findall(r"\d+", ROWS[kind.__name__])
    assert not codes or codes[0] == str(kind("").code)
