"""Programs that are not Python: built by Go from their published modules, kept in `benchmarks/.tools`."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent
BUILT = FOLDER / ".tools"
MODULES = FOLDER / "go"
NATS_SERVER = "github.com/nats-io/nats-server/v2"
NATS_VERSION = "v2.11.4"


def has_go() -> bool:
    return shutil.which("go") is not None


@cache
def go_program(name: str) -> Path:
    """Return the program of the module `go/NAME`, built when it is newer than what there is."""
    program = BUILT / name
    subprocess.run(["go", "build", "-o", program, "."], cwd=MODULES / name, check=True)
    return program


@cache
def nats_server_program() -> Path:
    """Return nats-server: the installed one, or the one that Go builds."""
    if found := shutil.which("nats-server"):
        return Path(found)
    program = BUILT / "nats-server"
    if not program.exists():
        BUILT.mkdir(exist_ok=True)
        command = ["go", "install", f"{NATS_SERVER}@{NATS_VERSION}"]
        subprocess.run(command, env={**os.environ, "GOBIN": str(BUILT)}, check=True)
    return program
