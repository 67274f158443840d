"""What `import micro_core` brings along, with every plugin installed beside it."""

import json
import subprocess
import sys

HEAVY = {
    "asyncio",
    "google",
    "h2",
    "httptools",
    "httpx",
    "importlib_metadata",
    "micro_broker_http",
    "micro_codec_proto",
    "micro_conformance",
    "micro_registry_mdns",
    "micro_transport_http",
    "pytest",
    "socket",
    "ssl",
    "trio",
    "uvloop",
    "zeroconf",
}


def imported_by(statement: str) -> set[str]:
    script = (
        f"import sys, json; {statement}; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_core_imports_no_plugin_and_nothing_heavy() -> None:
    assert imported_by("import micro_core") & HEAVY == set()


def test_the_names_of_what_is_heavy_are_importable() -> None:
    """Otherwise the test above would pass for a misspelt name."""
    assert imported_by("import " + ", ".join(sorted(HEAVY))) >= HEAVY
