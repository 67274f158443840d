"""Is offered as a registry, and has the hook of a selector alone."""

from typing import Any

from micro_core import hookimpl


@hookimpl
def make_selector() -> Any:
    return None
