"""One row of the table: a fault, what must hold while it lasts, and how it is measured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

__all__ = ["Measured", "Pace", "Row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How hard and how long a row is measured."""

    seconds: float
    rate: float
    """Calls a second."""
    patience: float
    """What is short for a caller, in seconds: more on a machine that others use too."""


TEST = Pace(seconds=1.5, rate=40, patience=1.5)
REPORT = Pace(seconds=10.0, rate=200, patience=0.5)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a row found."""

    is_met: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault and a goal."""

    kind: str
    fault: str
    goal: str
    measure: Callable[[Pace], Awaitable[Measured]]
    only_in_report: bool = False
    """For what takes long, or what a busy machine cannot judge."""
