"""What is installed: the entry points of all distributions, listed once in a process and without importing any of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

__all__ = ["Installed", "installed", "refresh"]

_GROUP = "micro."


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One name that one distribution offers."""

    kind: str
    """``registry``, … or ``extension``."""
    name: str
    module: str
    distribution: str
    version: str
    origin: str
    """Where the distribution lies."""
    requires_core: str
    """What it requires of micro-core, such as ``>=0.1,<0.2``: the range of the plugin API that it was built for."""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@cache
def installed() -> tuple[Installed, ...]:
    """Return every plugin and extension of this environment; kept until `refresh`."""
    import importlib_metadata

    found: dict[tuple[str, str, str], Installed] = {}
    for distribution in importlib_metadata.distributions():
        points = [point for point in distribution.entry_points if point.group.startswith(_GROUP)]
        for point in points:
            each = Installed(
                kind=point.group.removeprefix(_GROUP),
                name=point.name,
                module=point.value,
                distribution=_normal(distribution.name),
                version=distribution.version,
                origin=str(distribution.locate_file("")),
                requires_core=_core_range(distribution.requires or []),
            )
            found.setdefault((each.kind, each.name, each.distribution), each)
    return tuple(sorted(found.values(), key=lambda each: (each.kind, each.name, each.distribution)))


def refresh() -> None:
    """Look anew at what is installed when it is asked for next."""
    installed.cache_clear()


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _core_range(requirements: list[str]) -> str:
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if _normal(requirement.name) == "micro-core" and requirement.marker is None:
            return str(requirement.specifier)
    return ""
