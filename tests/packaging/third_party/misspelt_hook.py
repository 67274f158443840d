"""Has a hook whose name is misspelt."""

from typing import Any

from micro_core import hookimpl


@hookimpl
def make_regsitry() -> Any:
    return None
