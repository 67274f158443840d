"""The rule of the root conftest that a test leaves nothing behind does catch what is left."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parent.parent / "conftest.py"
LEAKS = {
    "file descriptor": "def test_it():\n    import socket; KEPT.append(socket.socket())",
    "thread": "def test_it():\n    import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
    "task": "async def test_it():\n    import asyncio; KEPT.append(asyncio.create_task(asyncio.sleep(100)))",
}
CLEAN = "async def test_it():\n    import anyio; await anyio.to_thread.run_sync(int)"


def run(folder: Path, body: str, only: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    source = f"import anyio.to_thread, pytest\npytestmark = pytest.mark.anyio\nKEPT = []\n{body}\n"
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # else a conftest above the folder counts too
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", only]
    return subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", LEAKS)
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path, kind: str) -> None:
    result = run(tmp_path, LEAKS[kind], only="not trio")
    assert result.returncode == 1
    assert f"  {kind} " in result.stdout


def test_a_clean_test_passes_on_every_backend(tmp_path: Path) -> None:
    result = run(tmp_path, CLEAN, only="asyncio or uvloop or trio")
    assert (result.returncode, "3 passed" in result.stdout) == (0, True)
