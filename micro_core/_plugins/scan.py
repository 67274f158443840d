"""What the installed distributions offer, read from their metadata: the one listing that the process keeps."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from micro_core._plugins.contracts import CONTRACTS, EXTENSION
from micro_core._plugins.entry_points import BUILT_IN, Installed, canonical

if TYPE_CHECKING:
    from importlib_metadata import Distribution

__all__ = ["installed", "refresh"]

log = logging.getLogger("micro.plugins")

_GROUP_PREFIX: Final = "micro."

_listing: tuple[Installed, ...] | None = None


def installed() -> tuple[Installed, ...]:
    """Return every plugin that the installed distributions offer, importing none; scanned once per process."""
    global _listing
    if _listing is None:
        _listing = _scan()
    return _listing


def refresh() -> tuple[Installed, ...]:
    """Scan again, for a process that installs plugins while it runs; return what `installed` returns from now on."""
    global _listing
    importlib.invalidate_caches()
    _listing = None
    return installed()


def _scan() -> tuple[Installed, ...]:
    import importlib_metadata

    found: dict[str, list[Installed]] = {}
    distributions: Iterable[Any] = importlib_metadata.distributions()
    for distribution in distributions:
        try:
            offered = _offered_by(distribution)
        except Exception:  # other people's metadata
            log.warning("the metadata of %r cannot be read; it is left out", distribution, exc_info=True)
            continue
        if offered:
            found.setdefault(canonical(offered[0].distribution), offered)  # the first on the path is what is imported
    plugins = [plugin for offered in found.values() for plugin in offered]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.kind, plugin.name, plugin.distribution)))


def _offered_by(distribution: Distribution) -> list[Installed]:
    if f"[{_GROUP_PREFIX}" not in (distribution.read_text("entry_points.txt") or "").replace(" ", ""):
        return []
    name, version, origin = distribution.metadata["Name"], distribution.version, str(distribution.locate_file(""))
    requirements = tuple(text for text in distribution.requires or () if _names_the_core(text))
    kinds = {_GROUP_PREFIX + kind: kind for kind in (*CONTRACTS, EXTENSION)}
    return [
        Installed(
            kind=kinds[entry_point.group],
            name=entry_point.name,
            distribution=name,
            version=version,
            value=entry_point.value,
            origin=origin,
            core_requirements=requirements,
        )
        for entry_point in distribution.entry_points
        if entry_point.group in kinds
    ]


def _names_the_core(requirement: str) -> bool:
    name = requirement.strip()
    end = next((at for at, letter in enumerate(name) if not (letter.isalnum() or letter in "-_.")), len(name))
    return canonical(name[:end]) == BUILT_IN
