"""The entry point ``weighted`` of the group ``micro.selector``."""

from collections.abc import Mapping

from micro_core import Selector, build, hookimpl

from .selector import WeightedSelector

__all__ = ["make_selector"]


@hookimpl
def make_selector(options: Mapping[str, str]) -> Selector:
    """Return a weighted selector; ``options`` become its arguments."""
    return build(WeightedSelector, options)
