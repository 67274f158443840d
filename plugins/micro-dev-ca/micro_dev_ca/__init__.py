"""A certificate authority for development."""

from micro_dev_ca.authority import Authority, Pair

__all__ = ["Authority", "Pair"]
