# /// script
# dependencies = ["nox>=2025.5.1", "uv>=0.6"]
# ///
"""Every check of this repository: `nox` runs them all, `nox -s lint types` some, `nox -l` lists them.

`pip install nox` is all this needs: nox reads the lines above and fetches uv by itself where it is missing.
Tests run on built wheels: each distribution alone with the core, all together on every other Python found, and all
together on the lowest Python with the lowest versions of everything.
"""

import os
import shutil
import sys
import tomllib
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False  # the summary at the end names them
os.environ["UV_PYTHON_DOWNLOADS"] = "never"
# Tests start hundreds of processes: each would compile every library anew, for half as much time again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).parent
DIST = ROOT / "dist"
PROJECTS = {
    table["name"]: table
    for pyproject in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    for table in [tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]]
}
PLUGINS = [name for name in PROJECTS if name != "micro-core"]
THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LOWEST_PYTHON = "3.11"
PYTHONS = list(dict.fromkeys(["3.12", "3.13", THIS_PYTHON]))

# Tests with a session of their own; those in tests/wired need every plugin.
SEPARATE = ["tests/packaging", "tests/docs", "tests/interop"]
# Judges the suites, each against every broken part, and takes minutes: the session of the kit alone runs it.
JUDGES = "plugins/micro-conformance/tests/test_every_promise_can_fail.py"
WIRED = "tests/wired"
# The files that take longest first, so that no worker is left with one of them at the end; no path within another,
# which pytest 8 passes over.
OTHERS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tests/[a-z]*"))
EVERYTHING = [WIRED, "plugins", *(path for path in OTHERS if path not in (WIRED, *SEPARATE))]

PACKAGES = ["micro_core", *(f"plugins/{plugin}/{plugin.replace('-', '_')}" for plugin in PLUGINS)]
CHECKED = [*PACKAGES, "tests", "examples", "benchmarks", "conftest.py", "noxfile.py"]
# Tests of plugins may leave out what a fixture's name says; parts that are broken on purpose are not typed at all.
LOOSE = ["--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls", "--exclude", "tests/faults/"]

_built: list[Path] = []


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types: strictly all but the tests of plugins, for each system, and with pyright what its users see."""
    _install(session, *PROJECTS, groups=["types", "test", "packaging"])
    session.install("nox")
    session.run("mypy", *CHECKED)
    for platform in ("darwin", "win32"):  # what exists on Linux alone is guarded there
        session.run("mypy", "--platform", platform, "--no-warn-unreachable", *PACKAGES)
    session.run("basedpyright")
    for plugin in PLUGINS:  # each has a conftest.py and modules of the same names
        session.run("mypy", *LOOSE, f"plugins/{plugin}")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that imports point the way that .importlinter says."""
    _install(session, *PROJECTS, groups=["imports"])
    session.run("lint-imports", "--no-cache", env={"PYTHONPATH": os.pathsep.join(_source_folders())})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests of all distributions together, on asyncio; on the Python of `alone`, what that leaves, on all."""
    _install(session, *PROJECTS, groups=["test"])
    if session.python == THIS_PYTHON and not session.posargs:
        _pytest(session, WIRED)
    else:
        _pytest(session, *EVERYTHING, "-k", "not uvloop and not trio", ignore=[*SEPARATE, JUDGES])


@nox.session
@nox.parametrize("name", list(PROJECTS), ids=list(PROJECTS))
def alone(session: nox.Session, name: str) -> None:
    """Run one distribution's tests with nothing but the core and the conformance kit beside it."""
    _install(session, "micro-core", "micro-conformance", name, groups=["test"])
    # The kit's own tests share nothing outside their process, so that each test can go to whoever is free.
    share = "load" if name == "micro-conformance" else "loadfile"
    _pytest(session, *_tests_of(name), ignore=[*SEPARATE, WIRED], share=share)


@nox.session(python=LOWEST_PYTHON)
def lowest(session: nox.Session) -> None:
    """Run the tests on the lowest dependency versions that the distributions allow."""
    constraints = Path(session.create_tmp()).resolve() / "lowest.txt"
    constraints.write_text("\n".join(_lowest_requirements()), encoding="utf-8")
    _install(session, *PROJECTS, groups=["test"], constraints=constraints)
    session.run("uv", "pip", "list")
    _pytest(session, *EVERYTHING, ignore=[*SEPARATE, JUDGES])


@nox.session
def packaging(session: nox.Session) -> None:
    """Look into wheels and sdists, and install them and third parties' wheels into fresh environments."""
    _install(session, "micro-core", groups=["test", "packaging"])
    _pytest(session, "tests/packaging")


@nox.session
def docs(session: nox.Session) -> None:
    """Execute the code blocks of the README files."""
    _install(session, *PROJECTS, groups=["test", "packaging"])
    _pytest(session, "tests/docs")


@nox.session
def interop(session: nox.Session) -> None:
    """Speak with real Go Micro programs, built here; `nox -s interop -- --write-matrix` renews docs/go-micro.md."""
    if shutil.which("go") is None:
        session.skip("Go is missing: these tests build Go Micro programs; install Go 1.25 or newer")
    page = ["python", "tests/interop/python/harness/page.py"]
    peers = {"PYTHONPATH": "tests/interop/python"}
    if "--write-matrix" in session.posargs:
        session.run(*page, "--write", env=peers)
        session.posargs.remove("--write-matrix")
    _install(session, *PROJECTS, groups=["test"])
    programs = Path(session.create_tmp()).resolve() / "programs"
    session.run("python", "tests/interop/python/harness/build.py", str(programs))
    # Go's look-ups end after 100 ms, whoever is busy meanwhile.
    _pytest(session, "tests/interop", environment={"MICRO_INTEROP_PROGRAMS": str(programs)}, processes=2)
    session.run(*page, env=peers)


@nox.session
def demo(session: nox.Session) -> None:
    """Show services that find, call, stream and publish; fail when a promise of the demo is broken."""
    _install(session, "micro-core[default]")
    session.run("python", "examples/demo/demo.py")


@nox.session(default=False)
def wheels(session: nox.Session) -> None:
    """Build every wheel and sdist into dist/, and do nothing else."""
    _build(session)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure beside peers and write docs/performance.md: `nox -s bench -- streams --turns 3` one section of it.

    Peers in Go are measured where Go is installed. A Python compiled without optimisations is a fifth slower:
    `nox -s bench --force-python /usr/bin/python3`.
    """
    _install(session, "micro-core[default]", "micro-dev-ca", groups=["bench"])
    session.run("python", "benchmarks/performance.py", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """Do every fault of docs/reliability.md at length; the ordinary tests do each for a second or two.

    `nox -s faults -- --write` renews the page, `nox -s faults -- p2c hedging` does some kinds.
    """
    _install(session, *PROJECTS, groups=["test"])
    session.run("python", "-m", "reliability", *session.posargs, env={"PYTHONPATH": "tests/wired/python"})


def _install(
    session: nox.Session, *names: str, groups: list[str] | None = None, constraints: Path | None = None
) -> None:
    """Install our wheels by exact version and the named dependency groups; make sure that the wheels are ours."""
    _build(session)
    ours = list(dict.fromkeys(name.partition("[")[0] for name in names))
    exact = [f"{name}=={PROJECTS[name.partition('[')[0]]['version']}" for name in dict.fromkeys(names)]
    others = [requirement for group in groups or [] for requirement in _group(group)]
    options = ["--find-links", str(DIST)] + (["--constraints", str(constraints)] if constraints else [])
    options += [f"--refresh-package={name}" for name in PROJECTS]  # uv keeps wheels by name and version
    session.install(*options, *exact, *others)
    session.run("python", "-P", "tests/packaging/installed_is_ours.py", str(DIST), *ours, silent=True)


def _build(session: nox.Session) -> None:
    """Build every wheel and sdist into dist/, once per run of nox."""
    if _built:
        return
    shutil.rmtree(DIST, ignore_errors=True)
    session.run("uv", "build", "--quiet", "--all-packages", "--out-dir", str(DIST), external=True)
    _built.extend(DIST.glob("*.whl"))


def _pytest(
    session: nox.Session,
    *paths: str,
    ignore: list[str] | None = None,
    environment: dict[str, str] | None = None,
    share: str = "loadfile",
    processes: int = 4,
) -> None:
    """Run tests against what is installed: nothing of the tree can be imported."""
    session.run(
        "python", "-m", "pytest", "-n", str(processes), "--dist", share, "--no-loadscope-reorder",
        *paths, *(f"--ignore={path}" for path in ignore or []), *session.posargs,
        env={"PYTHONSAFEPATH": "1", "MICRO_TESTS_FROM_WHEELS": "1", "MICRO_DIST": str(DIST), **(environment or {})},
    )  # fmt: skip


def _tests_of(name: str) -> list[str]:
    return ["tests"] if name == "micro-core" else [f"plugins/{name}/tests"]


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), name))


def _lowest_requirements() -> list[str]:
    """Return the lower bound of each requirement on others' distributions as an exact one."""
    requirements = {line for project in PROJECTS.values() for line in project.get("dependencies", [])}
    return sorted(line.replace(">=", "==") for line in requirements if not line.startswith("micro-"))


def _source_folders() -> list[str]:
    return [str(ROOT), *(str(ROOT / "plugins" / name) for name in PLUGINS)]
