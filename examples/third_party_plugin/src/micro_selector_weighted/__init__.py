"""A selector that sends more calls to heavier nodes."""

from .selector import WeightedSelector

__all__ = ["WeightedSelector"]
