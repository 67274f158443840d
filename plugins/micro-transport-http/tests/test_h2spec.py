"""What h2spec finds, conformance tests of HTTP/2 that are written in Go: 145 situations of RFC 9113 and 7541."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

from micro_core import Head, Limits, Tls
from micro_transport_http import HttpTransport
from micro_transport_http.http2 import connection
from micro_transport_http.server.door import Door

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        shutil.which("go") is None and not os.environ.get("CI"), reason="h2spec is built with Go, which CI installs"
    ),
]

_SOURCE = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"


@pytest.fixture(scope="session")
def h2spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("h2spec")
    subprocess.run(
        ["go", "install", _SOURCE], env={**os.environ, "GOBIN": str(folder)}, check=True, capture_output=True
    )
    return folder / "h2spec"


@pytest.mark.parametrize("way", ["clear", "tls"])
async def test_h2spec_finds_nothing_wrong(
    h2spec: Path, way: str, authority: Any, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It means 16,384 bytes where it sends a frame beyond what the peer takes.
    monkeypatch.setattr(connection, "FRAME_SIZE", 16_384)
    # It asks by GET, and expects an answer only when the request is complete.
    monkeypatch.setattr(Door, "check", lambda *_: None)
    cert, key = authority.issue("greeter")
    tls = Tls(cert=cert, key=key) if way == "tls" else Tls()

    def receive(request: Any) -> None:
        request.respond(Head({b"Content-Type": b"text/plain"}), {}, request.body or b"hello")

    async with HttpTransport(native=native, tls=tls) as transport:
        async with transport.listen("127.0.0.1:0", receive, Limits()) as listener:
            host, _, port = listener.address.rpartition(":")
            options = ["-t", "-k"] if way == "tls" else []
            command = [str(h2spec), "-h", host, "-p", port, "-o", "5", *options]
            done = await anyio.run_process(command, check=False)
    shown = done.stdout.decode()
    failures = shown.partition("Failures:")[2]
    failed = re.findall(r"× \d+: (.*)", failures)
    # A port in clear text speaks HTTP/1.1 as well: what is no preface is answered with its 400.
    assert failed == (["Sends invalid connection preface"] if way == "clear" else []), shown
    assert f"145 tests, {145 - len(failed)} passed, 0 skipped" in shown
