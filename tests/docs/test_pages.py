"""The python and sh blocks of docs/*.md: python is executed, commands are those that are executed elsewhere."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import anyio
import pytest

from micro_core.testing import make_part, world

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(ROOT.glob("docs/*.md"))
OF_TESTS = "testing.md"
"""Its blocks are test modules, which test_testing_page.py runs."""
FOLLOWED = "tls.md"
"""Its commands belong together: test_tls_page.py gives them in their order."""
# Written to show where something of the reader's stands: these are what stands there.
GIVEN = """
from micro_core import *
from micro_core.builtin.memory.registry import MemoryRegistry as MyRegistry

async def ship(event):
    pass
"""
# Commands on those pages that no test of this folder executes, and what does.
EXECUTED_ELSEWHERE = {
    "python tests/packaging/installed_is_ours.py dist micro-core micro-registry-mdns": "by nox after each installation",
}


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != OF_TESTS], ids=lambda page: page.name)
def test_python_on_the_page_runs(page: Path, blocks_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a page's blocks one after the other, with what came before at hand, in a world in memory."""
    blocks = [block for block in blocks_of(page) if block.language == "python"]
    module = type(sys)("page")  # type hints of what a block defines are looked up here
    monkeypatch.setitem(sys.modules, "page", module)
    exec(GIVEN, module.__dict__)
    codes = [code(block.text, f"{page.name}:{block.line}") for block in blocks]
    anyio.run(execute, codes, module.__dict__)


def code(text: str, where: str) -> CodeType:
    compiled: CodeType = compile(text, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return compiled


async def execute(codes: list[CodeType], names: dict[str, Any]) -> None:
    async with world() as here, make_part("broker", "memory", registry=make_part("registry", "memory")) as broker:
        names.update(broker=broker, service=here.service("page"))
        for each in codes:
            result = eval(each, names)
            if inspect.isawaitable(result):
                await result


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != FOLLOWED], ids=lambda page: page.name)
def test_commands_on_the_page_are_executed_somewhere(page: Path, blocks_of: Any) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for block in blocks_of(page) if block.language == "sh" for line in block.text.splitlines()]
    assert [line for line in commands if line not in readme and line not in EXECUTED_ELSEWHERE] == []
