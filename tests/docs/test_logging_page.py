"""docs/logging.md lists each logger of the source with the levels that it is used at."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LEVELS = {"debug": "DEBUG", "info": "INFO", "warning": "WARNING", "error": "ERROR", "exception": "ERROR"}
"""By the method of a logger."""


def used() -> dict[str, set[str]]:
    """Return the levels of each logger, as the source has them."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in [*ROOT.glob("micro_core/**/*.py"), *ROOT.glob("plugins/*/micro_*/**/*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        names = {name for node in nodes if (name := logger_in(node)).startswith("micro")}
        for name in names:
            found[name] |= {level for node in nodes if (level := level_in(node))}
    return found


def logger_in(node: ast.AST) -> str:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger" and node.args:
        return str(ast.literal_eval(node.args[0]))
    return ""


def level_in(node: ast.AST) -> str:
    if not isinstance(node, ast.Attribute):
        return ""
    if isinstance(node.value, ast.Name) and node.value.id in ("log", "_log", "_logger"):
        return LEVELS.get(node.attr, "")
    return node.attr if ast.unparse(node.value) == "logging" and node.attr in LEVELS.values() else ""


def listed() -> dict[str, set[str]]:
    """Return the levels of each logger, as the page has them."""
    page = (ROOT / "docs" / "logging.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## `(micro[\w.]*)`\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return {name: set(re.findall(r"^\| ([A-Z]+) \|", text, re.MULTILINE)) for name, text in sections}


def test_the_source_has_loggers() -> None:
    assert {"micro.service", "micro.broker.http"} <= used().keys()


def test_the_page_lists_every_logger_and_no_other() -> None:
    assert listed().keys() == used().keys()


@pytest.mark.parametrize("logger", sorted(used()))
def test_the_page_lists_the_levels_of_a_logger(logger: str) -> None:
    assert listed()[logger] == used()[logger]
