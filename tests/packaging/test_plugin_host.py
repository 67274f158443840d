"""The plugin host with real wheels of third parties, installed beside the built core in a fresh environment."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest

SOURCES = Path(__file__).parent / "third_party"
KINDS = ["registry", "selector", "transport", "codec", "broker", "client", "server"]

Ask: TypeAlias = Callable[..., str]


@dataclass(frozen=True, kw_only=True)
class ThirdParty:
    """A distribution of somebody else, with one module or none."""

    name: str
    module: str
    entry_points: Mapping[str, str] = field(default_factory=dict)
    """Entry point name by group."""
    version: str = "1.0"
    requires: str = "micro-core>=0.1"

    def write_wheel(self, folder: Path) -> Path:
        """Write the wheel: an archive of the module and of what describes it."""
        stem = f"{self.name.replace('-', '_')}-{self.version}"
        groups = "".join(f"[{group}]\n{name} = {self.module}\n" for group, name in self.entry_points.items())
        files = {
            f"{self.module}.py": (SOURCES / f"{self.module}.py").read_text(encoding="utf-8"),
            f"{stem}.dist-info/METADATA": (
                f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\nRequires-Dist: {self.requires}\n"
            ),
            f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{stem}.dist-info/entry_points.txt": groups,
        }
        record = "".join(f"{name},{digest(content)},{len(content.encode())}\n" for name, content in files.items())
        wheel = folder / f"{stem}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            archive.writestr(f"{stem}.dist-info/RECORD", f"{record}{stem}.dist-info/RECORD,,\n")
        return wheel


def digest(content: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode().rstrip("=")


def bad(module: str) -> ThirdParty:
    name = module.replace("_", "-")
    return ThirdParty(name=name, module=module, entry_points={"micro.registry": name})


THIRD_PARTIES = [
    ThirdParty(name="Acme.Parts", module="acme_parts", entry_points={f"micro.{kind}": "acme" for kind in KINDS}),
    ThirdParty(name="acme-extension", module="acme_extension", entry_points={"micro.extension": "tracing"}),
    ThirdParty(name="twin-a", module="acme_parts", entry_points={"micro.registry": "twin"}, version="1.2"),
    ThirdParty(name="twin-b", module="acme_parts", entry_points={"micro.registry": "twin"}, version="3.4"),
    ThirdParty(name="shadow", module="evil", entry_points={"micro.registry": "memory"}),
    ThirdParty(name="future", module="evil", entry_points={"micro.registry": "future"}, requires="micro-core>=9,<10"),
    bad("evil"),
    bad("fails_at_import"),
    bad("exits_at_import"),
    bad("misspelt_hook"),
    bad("no_marker"),
    bad("wrong_type"),
    bad("no_hook"),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, dist: Path) -> Path:
    """Return the python of an environment with the built core and every third party's wheel."""
    folder = tmp_path_factory.mktemp("third-parties")
    wheels = [str(third_party.write_wheel(folder)) for third_party in THIRD_PARTIES]
    interpreter = folder / "environment" / "bin" / "python"
    install = ["pip", "install", "--quiet", "--python", str(interpreter)]
    run_uv("venv", "--quiet", "--python", sys.executable, str(folder / "environment"))
    (core,) = dist.glob("micro_core-*.whl")
    run_uv(*install, str(core))
    run_uv(*install, "--no-index", "--no-deps", *wheels)
    return interpreter


def run_uv(*arguments: str) -> None:
    result = subprocess.run([sys.executable, "-m", "uv", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def run(python: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs python with arguments and variables in an empty folder and gives what it prints."""

    def run(*arguments: str, **environ: str) -> str:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MICRO_", "PYTHON", "COV"))}
        result = subprocess.run(
            [str(python), "-P", *arguments],
            env={**kept, "EVIL_FILE": str(tmp_path / "evil"), **environ},
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def ask(run: Callable[..., str]) -> Ask:
    """Return a function from a kind, flags and variables to what the plugin host of a fresh process says."""
    return lambda *arguments, **environ: run(str(SOURCES / "ask.py"), *arguments, **environ)


@pytest.fixture
def evil_was_imported(tmp_path: Path) -> Callable[[], bool]:
    return (tmp_path / "evil").exists


@pytest.mark.parametrize("kind", KINDS)
def test_installed_plugin_is_used_when_a_string_names_it(kind: str, ask: Ask) -> None:
    contract = "Caller" if kind == "client" else kind.capitalize()

    assert f"Acme{contract}" in ask(kind, **{f"MICRO_{kind.upper()}": "acme"})


def test_configuration_string_reaches_the_plugin(ask: Ask) -> None:
    answer = ask("registry", "--registry=acme@acme_parts://a:1,b:2/p?ttl=500ms")

    assert answer.startswith("AcmeRegistry a:1,b:2 /p ttl=0.5 ")


def test_extension_takes_part_when_it_is_named(ask: Ask) -> None:
    assert ask("registry", "--registry=acme").endswith("[] 0")
    answer = ask("registry", "--registry=acme", MICRO_EXTENSIONS="tracing")
    assert answer.startswith("wrapped acme\n")
    assert answer.endswith("['traced'] 1")


def test_listing_tells_names_versions_and_origins_without_importing(
    run: Callable[..., str], python: Path, evil_was_imported: Callable[[], bool]
) -> None:
    program = """if True:
        import json, sys
        from micro_core._plugins.scan import installed
        plugins = [(p.kind, p.name, p.distribution, p.version, p.value, p.origin) for p in installed()]
        print(json.dumps([plugins, list(sys.modules)]))
    """
    plugins, modules = json.loads(run("-c", program))

    origin = next(str(path) for path in python.parent.parent.glob("lib/python*/site-packages"))
    assert ["registry", "twin", "twin-a", "1.2", "acme_parts", origin] in plugins
    assert ["registry", "evil", "evil", "1.0", "evil", origin] in plugins
    assert set(modules).isdisjoint(third_party.module for third_party in THIRD_PARTIES)
    assert not evil_was_imported()


def test_importing_the_core_does_not_scan(run: Callable[..., str]) -> None:
    assert run("-c", "import sys, micro_core; print('importlib_metadata' in sys.modules)") == "False\n"


def test_plugin_that_is_not_selected_is_not_imported(ask: Ask, evil_was_imported: Callable[[], bool]) -> None:
    ask("registry", "--registry=acme")

    assert not evil_was_imported()


def test_blocked_plugin_is_not_imported_even_when_it_is_selected(
    ask: Ask, evil_was_imported: Callable[[], bool]
) -> None:
    blocked = ask("registry", "--registry=evil", MICRO_PLUGINS_BLOCK="other,EVIL")
    not_allowed = ask("registry", "--registry=evil", MICRO_PLUGINS_ALLOW="acme.parts")

    assert blocked.startswith("PluginError: registry 'evil' is offered by evil 1.0, which MICRO_PLUGINS_BLOCK")
    assert not_allowed.startswith("PluginError: registry 'evil' is offered by evil 1.0, which MICRO_PLUGINS_ALLOW")
    assert not evil_was_imported()


def test_evil_plugin_would_have_been_noticed(ask: Ask, evil_was_imported: Callable[[], bool]) -> None:
    ask("registry", "--registry=evil")

    assert evil_was_imported()


def test_unknown_name_is_told_with_what_is_installed_and_where_it_came_from(ask: Ask) -> None:
    answer = ask("selector", MICRO_SELECTOR="acm")

    assert answer == (
        "PluginNotFound: selector 'acm' not found; installed: acme, p2c, random, roundrobin; "
        "did you mean 'acme'? (from variable MICRO_SELECTOR)"
    )


def test_default_that_is_not_installed_is_told_with_how_to_install_it(ask: Ask) -> None:
    assert ask("transport") == (
        "PluginNotFound: transport 'http' not found; installed: acme, memory; "
        "try: pip install micro-transport-http (from default)"
    )


def test_two_distributions_of_one_name_are_told_and_one_can_be_chosen(ask: Ask) -> None:
    answer = ask("registry", "--registry=twin")

    assert "offered by twin-a 1.2 and twin-b 3.4: choose one by writing twin@twin-a or twin@twin-b" in answer
    assert ask("registry", "--registry=twin@twin-b").startswith("AcmeRegistry")
    assert ask("registry", "--registry=twin", MICRO_PLUGINS_BLOCK="twin-a").startswith("AcmeRegistry")


def test_built_in_is_not_shadowed_silently(ask: Ask, evil_was_imported: Callable[[], bool]) -> None:
    assert "and shadow 1.0: choose one by writing memory@micro-core or memory@shadow" in ask(
        "registry", "--registry=memory"
    )
    assert "MemoryRegistry" in ask("registry", "--registry=memory@micro-core")
    assert not evil_was_imported()


def test_plugin_for_another_plugin_api_is_refused_before_import(
    ask: Ask, evil_was_imported: Callable[[], bool]
) -> None:
    answer = ask("registry", "--registry=future")

    assert answer.startswith("PluginError: registry 'future' of future 1.0 (from flag --registry)")
    assert "built for micro-core <10,>=9, and this is micro-core " in answer
    assert "install a release of future for micro-core " in answer
    assert not evil_was_imported()


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("fails-at-import", "importing fails_at_import failed with RuntimeError: the flux capacitor is missing"),
        ("exits-at-import", "importing exits_at_import failed with SystemExit: 3"),
        ("misspelt-hook", "unknown hook 'make_regsitry' in plugin"),
        ("misspelt-hook", "did you mean 'make_registry'?"),
        ("no-marker", "the function 'make_registry' is no hook without @hookimpl above it"),
        ("wrong-type", "make_registry returned an object of type str, not a Registry"),
        ("no-hook", "it has no hook make_registry; its hooks: make_selector"),
    ],
)
def test_bad_plugin_is_one_error_with_distribution_version_and_cause(name: str, cause: str, ask: Ask) -> None:
    answer = ask("registry", f"--registry={name}")

    assert answer.startswith(f"PluginError: registry '{name}' of {name} 1.0 (from flag --registry): ")
    assert cause in answer


def test_unknown_option_is_told_with_distribution_version_and_near_miss(ask: Ask) -> None:
    answer = ask("registry", "--registry=acme://?tll=1&token=hunter2")

    assert "registry 'acme' of Acme.Parts 1.0 (from flag --registry): " in answer
    assert "has no option 'tll'; did you mean 'ttl'?; its options: token, ttl" in answer
    assert "hunter2" not in answer


@pytest.mark.parametrize("entry_points", ["[micro.registry]\nnonsense", "[micro.registry]\nx = y\n", "[micro.registry"])
def test_broken_metadata_of_one_distribution_harm_no_other(entry_points: str, ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "entry_points.txt").write_text(entry_points, encoding="utf-8")

    assert ask("registry", "--registry=acme", PYTHONPATH=str(tmp_path)).startswith("AcmeRegistry")
