"""A registry with a little server: who is there is kept by one process, which the others ask over TCP."""

from .registry import RosterRegistry

__all__ = ["RosterRegistry"]
