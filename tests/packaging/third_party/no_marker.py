"""Forgets the marker, which pluggy alone would pass over in silence."""

from typing import Any


def make_registry() -> Any:
    return None
