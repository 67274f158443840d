"""The import arrows that .importlinter cannot express."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGIN_MODULES = sorted(path for path in ROOT.glob("plugins/*/micro_*/**/*.py"))


def private_names_imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.startswith("micro_core.") and "._" in name)


@pytest.mark.parametrize("path", PLUGIN_MODULES, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_plugin_imports_public_names_of_the_core_only(path: Path) -> None:
    assert list(private_names_imported(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "import micro_core._runtime.runner",
        "from micro_core._runtime.runner import spawn",
        "from micro_core._runtime import runner",
    ],
)
def test_private_import_is_noticed(line: str) -> None:
    assert list(private_names_imported(line)) != []


def test_importing_the_core_imports_no_plugin_and_no_heavy_dependency() -> None:
    program = "import micro_core, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    unwanted = {"httpx", "zeroconf", "google", "httptools", "pydantic", "attr", "importlib_metadata", "trio", "uvloop"}
    ours = {
        "micro_broker_http",
        "micro_codec_proto",
        "micro_conformance",
        "micro_registry_mdns",
        "micro_transport_http",
    }
    assert {name.partition(".")[0] for name in modules} & (unwanted | ours) == set()


def classes_by_package(root: Path) -> Iterator[tuple[str, str, str]]:
    """Yield package, name without its underscore, and module of every class that a module of ours has at its top."""
    tops = [root / "micro_core", *(path for path in root.glob("plugins/*/micro_*") if path.name != "micro_conformance")]
    for top in tops:
        for path in top.rglob("*.py"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    yield top.name, node.name.lstrip("_"), str(path.relative_to(root))


def names_of_two_things(root: Path) -> dict[str, list[str]]:
    """Return the class names, by package, that stand in several modules of it, with these modules."""
    found: dict[str, list[str]] = {}
    for package, name, module in classes_by_package(root):
        found.setdefault(f"{package}: {name}", []).append(module)
    return {name: sorted(modules) for name, modules in found.items() if len(modules) > 1}


def test_no_class_name_stands_for_two_things_within_a_package() -> None:
    assert names_of_two_things(ROOT) == {}


def test_a_class_name_for_two_things_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "micro_core" / "room").mkdir(parents=True)
    (tmp_path / "micro_core" / "one.py").write_text("class Route: ...\n", encoding="utf-8")
    (tmp_path / "micro_core" / "room" / "two.py").write_text("class _Route: ...\n", encoding="utf-8")

    assert names_of_two_things(tmp_path) == {"micro_core: Route": ["micro_core/one.py", "micro_core/room/two.py"]}
