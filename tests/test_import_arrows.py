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
