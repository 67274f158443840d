"""Build the Go programs against the published modules, with nothing kept but what Go's own cache keeps.

Usage: python build.py FOLDER [LINE…] builds into FOLDER; without lines all of them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

GO = Path(__file__).parent.parent.parent / "go"
WRITTEN_FOR = "go-micro.dev/v5"
LINES = {"v1": "github.com/micro/go-micro", "v4": "go-micro.dev/v4", "v5": "go-micro.dev/v5"}
"""The lines of Go Micro and the path that each is imported by."""
STRANGERS = {
    "micro": "github.com/micro/micro",
    "greeter-srv": "github.com/micro/examples/greeter/srv",
    "greeter-cli": "github.com/micro/examples/greeter/cli",
    "stream-server": "github.com/micro/examples/stream/server",
    "stream-client": "github.com/micro/examples/stream/client",
    "pubsub-srv": "github.com/micro/examples/pubsub/srv",
    "pubsub-cli": "github.com/micro/examples/pubsub/cli",
}
"""Programs that others wrote and published, by the package that is built."""


class GoMissing(Exception):
    """The machine has no Go."""


def build(folder: Path, name: str) -> Path:
    """Build one program into ``folder`` and return its path. Raises `GoMissing`, and what `go build` says."""
    program = folder / name
    if name in LINES:
        module = _copy(folder, name)
        for source in (GO / "peer").glob("*.go"):
            text = source.read_text(encoding="utf-8").replace(WRITTEN_FOR, LINES[name])
            (module / source.name).write_text(text, encoding="utf-8")
        package = "."
    else:
        module = _copy(folder, "cli" if name == "micro" else "examples")
        package = STRANGERS[name]
    _go(module, "build", "-trimpath", "-ldflags=-s -w", "-o", str(program), package)
    return program


def _copy(folder: Path, module: str) -> Path:
    """Copy a module and the stubs beside it, so that building writes nothing into the tree."""
    shutil.copytree(GO / "stubs", folder / "source" / "stubs", dirs_exist_ok=True)
    return Path(shutil.copytree(GO / module, folder / "source" / module, dirs_exist_ok=True))


def _go(module: Path, *arguments: str) -> None:
    go = shutil.which("go")
    if go is None:
        raise GoMissing("the interop tests build Go programs: install Go 1.25 or newer and have `go` in PATH")
    done = subprocess.run([go, *arguments], cwd=module, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"go {' '.join(arguments)} failed in {module}:\n{done.stdout}{done.stderr}")


def environment() -> dict[str, str]:
    """Return what Go builds with: one toolchain, no C compiler; the copy of go.mod may be completed, go.sum pins."""
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOWORK": "off"}


def main(folder: str, *names: str) -> None:
    """Build the named programs, or all."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or (*LINES, *STRANGERS):
        build(Path(folder).resolve(), name)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (GoMissing, RuntimeError) as error:
        sys.exit(str(error))
