"""Returns what is no registry."""

from typing import Any

from micro_core import hookimpl


@hookimpl
def make_registry() -> Any:
    return "a registry, honestly"
