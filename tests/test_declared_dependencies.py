"""Each distribution declares what it imports: a test environment has more installed than a user's."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
DISTRIBUTION_OF = {"google": "protobuf"}
# Used where the application brings it, never required.
OPTIONAL = {"attr", "attrs", "pydantic", "trio", "uvloop"}


def imported(package: Path) -> Iterator[str]:
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield (node.module or "").partition(".")[0]


def declared(pyproject: Path) -> set[str]:
    dependencies = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return {re.split(r"[<>=~!;\[ ]", dependency)[0] for dependency in dependencies}


def distributions_imported(folder: Path) -> set[str]:
    (package,) = folder.glob("micro_*/")
    names = set(imported(package)) - sys.stdlib_module_names - OPTIONAL - {package.name}
    return {DISTRIBUTION_OF.get(name, name.replace("_", "-")) for name in names}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: "micro-core" if folder == ROOT else folder.name)
def test_every_import_is_a_declared_dependency(folder: Path) -> None:
    assert distributions_imported(folder) - declared(folder / "pyproject.toml") == set()


@pytest.mark.parametrize("folder", FOLDERS[1:], ids=lambda folder: folder.name)
def test_readme_of_a_plugin_speaks_of_each_dependency(folder: Path) -> None:
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(declared(folder / "pyproject.toml")) if name not in readme] == []
