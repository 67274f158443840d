"""What is in the wheels and sdists, and what an installer makes of them."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from email.parser import BytesParser
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDERS = {"micro-core": ROOT, **{path.name: path for path in sorted((ROOT / "plugins").iterdir()) if path.is_dir()}}
DEFAULT = ["micro-core", "micro-registry-mdns", "micro-transport-http", "micro-broker-http", "micro-codec-proto"]
INSTALLED_IS_OURS = Path(__file__).parent / "installed_is_ours.py"

each_distribution = pytest.mark.parametrize("name", FOLDERS)


def package_of(name: str) -> str:
    return name.replace("-", "_")


def project_of(name: str) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((FOLDERS[name] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def wheel_of(name: str, folder: Path) -> Path:
    (wheel,) = folder.glob(f"{package_of(name)}-*.whl")
    return wheel


def sdist_of(name: str, folder: Path) -> Path:
    (sdist,) = folder.glob(f"{package_of(name)}-*.tar.gz")
    return sdist


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {entry: archive.read(entry) for entry in archive.namelist()}


def sdist_names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {str(PurePosixPath(*PurePosixPath(member).parts[1:])) for member in archive.getnames()}


def metadata_of(wheel: Path) -> Message:
    files = contents(wheel)
    (entry,) = [name for name in files if name.endswith(".dist-info/METADATA")]
    return BytesParser().parsebytes(files[entry])


def test_all_distributions_are_built(dist: Path) -> None:
    assert len(FOLDERS) == 8
    assert {path.name.split("-")[0] for path in dist.glob("*.whl")} == {package_of(name) for name in FOLDERS}
    assert len(list(dist.glob("*.tar.gz"))) == 8


@each_distribution
def test_wheel_holds_its_package_and_nothing_else(dist: Path, name: str) -> None:
    tops = {entry.split("/")[0] for entry in contents(wheel_of(name, dist))}
    assert tops == {package_of(name), f"{package_of(name)}-{project_of(name)['version']}.dist-info"}


@each_distribution
def test_wheel_holds_every_module_of_the_tree(dist: Path, name: str) -> None:
    package = FOLDERS[name] / package_of(name)
    expected = {str(path.relative_to(FOLDERS[name])) for path in package.rglob("*.py")}
    assert expected <= contents(wheel_of(name, dist)).keys()


@each_distribution
def test_wheel_is_typed_licensed_and_described(dist: Path, name: str) -> None:
    files, metadata = contents(wheel_of(name, dist)), metadata_of(wheel_of(name, dist))
    assert f"{package_of(name)}/py.typed" in files
    assert any(entry.endswith("licenses/LICENSE") for entry in files)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert f"# {name}" in metadata.get_payload() or name == "micro-core"
    assert len(metadata.get_payload()) > 500, "the README is the page that a user of the index sees"


@each_distribution
def test_wheel_names_no_path_of_the_machine_that_built_it(dist: Path, name: str) -> None:
    assert [entry for entry, data in contents(wheel_of(name, dist)).items() if str(ROOT).encode() in data] == []


def test_sdist_of_the_core_holds_nothing_of_the_plugins(dist: Path) -> None:
    tops = {PurePosixPath(path).parts[0] for path in sdist_names(sdist_of("micro-core", dist)) if path != "."}
    assert tops == {"micro_core", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "PKG-INFO", ".gitignore"}


@each_distribution
def test_wheel_from_sdist_is_the_wheel_from_the_tree(dist: Path, tmp_path: Path, name: str) -> None:
    build = [sys.executable, "-m", "uv", "build", "--quiet", "--wheel", "--out-dir"]
    subprocess.run([*build, str(tmp_path / "tree"), str(FOLDERS[name])], check=True)
    subprocess.run([*build, str(tmp_path / "sdist"), str(sdist_of(name, dist))], check=True)
    assert contents(wheel_of(name, tmp_path / "tree")) == contents(wheel_of(name, tmp_path / "sdist"))


@each_distribution
def test_every_declared_entry_point_names_a_module_of_the_wheel(dist: Path, name: str) -> None:
    files = contents(wheel_of(name, dist))
    targets = [target for group in project_of(name).get("entry-points", {}).values() for target in group.values()]
    assert [target for target in targets if f"{target.replace('.', '/')}.py" not in files] == []


@pytest.mark.parametrize("name", [name for name in FOLDERS if name not in ("micro-core", "micro-dev-ca")])
def test_plugin_declares_the_range_of_the_plugin_api_that_it_was_built_for(dist: Path, name: str) -> None:
    assert "micro-core<0.3,>=0.2" in metadata_of(wheel_of(name, dist)).get_all("Requires-Dist", [])


@each_distribution
def test_distribution_installs_alone_beside_the_core(
    dist: Path, fresh_environment: Callable[..., Path], name: str
) -> None:
    version = project_of(name)["version"]
    python = fresh_environment(f"{name}=={version}", f"micro-core=={project_of('micro-core')['version']}")
    subprocess.run([str(python), "-P", "-c", f"import {package_of(name)}"], check=True)
    subprocess.run([str(python), "-P", str(INSTALLED_IS_OURS), str(dist), name, "micro-core"], check=True)


def test_the_default_extra_brings_the_five_and_they_are_ours(
    dist: Path, fresh_environment: Callable[..., Path]
) -> None:
    python = fresh_environment(f"micro-core[default]=={project_of('micro-core')['version']}")
    subprocess.run([str(python), "-P", str(INSTALLED_IS_OURS), str(dist), *DEFAULT], check=True)
    modules = ", ".join(package_of(name) for name in DEFAULT)
    subprocess.run([str(python), "-P", "-c", f"import uvloop, {modules}"], check=True)


def test_somebody_elses_files_are_noticed(dist: Path, tmp_path: Path, fresh_environment: Callable[..., Path]) -> None:
    python = fresh_environment(f"micro-core=={project_of('micro-core')['version']}")
    program = "import micro_core, pathlib; print(pathlib.Path(micro_core.__file__).parent)"
    folder = subprocess.run(
        [str(python), "-P", "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()
    (other,) = Path(folder).parent.glob("micro_core-*.dist-info/RECORD")
    other.write_text("micro_core/__init__.py,sha256=stranger,1\n", encoding="utf-8")
    result = subprocess.run(
        [str(python), "-P", str(INSTALLED_IS_OURS), str(dist), "micro-core"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (result.returncode, "not installed from" in result.stderr) == (1, True)
