"""Where services are, on machines whose networks come, change and go: in network namespaces, over real mDNS."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("network_program.py")
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "--kill-child"]


def can_make_namespaces() -> bool:
    if not (shutil.which("unshare") and shutil.which("ip") and shutil.which("nsenter")):
        return False
    return subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_service_is_told_by_the_address_that_it_has(backend: str) -> None:
    """No default route anywhere; the interface comes after the start, and changes its address."""
    if not can_make_namespaces():
        pytest.skip("network namespaces cannot be made here")

    settings = {"MICRO_SERVER_ADDRESS": ":0", "MICRO_REGISTER_INTERVAL": "1000", "MICRO_REGISTER_TTL": "3000"}
    environment = os.environ | settings
    command = [*NAMESPACE, sys.executable, str(PROGRAM), "serve", backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)

    assert done.returncode == 0, done.stdout + done.stderr
    told = re.findall(r"^(?:address|found) (.*):\d+$", done.stdout, re.M)
    assert told == ["127.0.0.1", "10.77.0.1", "10.77.0.1", "10.77.0.9", "10.77.0.9"], done.stdout
    assert done.stdout.count("reply Hello Ada") == 2
    warning = r"log WARNING greeter listens on .* registered as 127\.0\.0\.1:\d+, for this machine only"
    assert re.search(warning, done.stdout), done.stdout
