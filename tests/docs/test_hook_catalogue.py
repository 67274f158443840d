"""docs/plugins.md names every hook with all of its arguments."""

import inspect
from pathlib import Path

import pytest

from micro_core import hookspecs

PAGE = (Path(__file__).parent.parent.parent / "docs" / "plugins.md").read_text(encoding="utf-8")
HOOKS = {name: hook for name, hook in inspect.getmembers(hookspecs, inspect.isfunction) if hasattr(hook, "micro_spec")}
SHARED = {"name", "address", "path", "options"}


def row_of(hook: str) -> str:
    return next((line for line in PAGE.splitlines() if line.startswith(f"| `{hook}` |")), "")


def test_there_are_hooks() -> None:
    assert {"make_registry", "client_middleware", "lifespan"} <= HOOKS.keys()


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_is_in_the_catalogue_with_its_arguments(hook: str) -> None:
    arguments = set(inspect.signature(HOOKS[hook]).parameters) - SHARED

    assert row_of(hook)
    assert [argument for argument in arguments if f"`{argument}`" not in row_of(hook)] == []
