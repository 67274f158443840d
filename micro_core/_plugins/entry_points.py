"""Which of the installed entry points a name means; decided before anything of a plugin is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from micro_core._settings.near_miss import near_miss
from micro_core.errors import PluginError, PluginNotFound

__all__ = ["BUILT_IN", "Installed", "PluginQuery", "canonical", "is_allowed", "select"]

BUILT_IN: Final = "micro-core"

_PUBLISHED: Final = {
    ("registry", "mdns"): "micro-registry-mdns",
    ("transport", "http"): "micro-transport-http",
    ("broker", "http"): "micro-broker-http",
    ("codec", "proto"): "micro-codec-proto",
    ("extension", "auth"): "micro-extension-auth",
}
"""What this project publishes: the only distributions that an error proposes to install."""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A plugin that an installed distribution offers; nothing of it was imported to know this."""

    kind: str
    """``registry``, ``transport``, …, or ``extension``."""
    name: str
    distribution: str
    version: str
    value: str
    """What the entry point names: ``module``, or ``module:attribute``."""
    origin: str
    """The folder that the distribution was found in."""
    core_requirements: tuple[str, ...] = ()
    """The distribution's own requirements on `micro-core`: the plugin API that it was built for."""

    @property
    def provider(self) -> str:
        """The distribution with its version, as errors name it."""
        return f"{self.distribution} {self.version}"


class PluginQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which plugin a configuration asks for, and where that was written."""

    kind: str
    name: str
    distribution: str = ""
    source: str = "default"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"


def canonical(distribution: str) -> str:
    """Return a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def is_allowed(distribution: str, allow: Sequence[str], block: Sequence[str]) -> bool:
    """Tell whether a distribution may be imported. An empty ``allow`` allows all, any other the built-ins as well."""
    name = canonical(distribution)
    if name in map(canonical, block):
        return False
    return not allow or name == BUILT_IN or name in map(canonical, allow)


def select(
    wanted: PluginQuery, installed: Iterable[Installed], allow: Sequence[str], block: Sequence[str]
) -> Installed:
    """Return the entry point that is meant. Raises `PluginNotFound`, `PluginError` where it is kept out or several."""
    of_kind = [one for one in installed if one.kind == wanted.kind]
    usable = [one for one in of_kind if is_allowed(one.distribution, allow, block)]
    named = _matching(wanted, usable)
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        raise PluginError(_several(wanted, named))
    if kept_out := _matching(wanted, of_kind):
        raise PluginError(_kept_out(wanted, kept_out[0], block))
    raise PluginNotFound(_not_found(wanted, usable))


def _matching(wanted: PluginQuery, candidates: Iterable[Installed]) -> list[Installed]:
    return [
        one
        for one in candidates
        if one.name == wanted.name
        and (not wanted.distribution or canonical(one.distribution) == canonical(wanted.distribution))
    ]


def _several(wanted: PluginQuery, named: Sequence[Installed]) -> str:
    providers = " and ".join(sorted(one.provider for one in named))
    if len({canonical(one.distribution) for one in named}) == 1:
        return f"{wanted} is offered twice by {named[0].provider}, which has to be mended (from {wanted.source})"
    choices = " or ".join(sorted(f"{wanted.name}@{one.distribution}" for one in named))
    return (
        f"{wanted} is offered by {providers}: choose one by writing {choices}, "
        f"or keep one out with MICRO_PLUGINS_BLOCK (from {wanted.source})"
    )


def _kept_out(wanted: PluginQuery, plugin: Installed, block: Sequence[str]) -> str:
    blocked = canonical(plugin.distribution) in map(canonical, block)
    reason = "MICRO_PLUGINS_BLOCK (plugins_block) names" if blocked else "MICRO_PLUGINS_ALLOW (plugins_allow) omits"
    return f"{wanted} is offered by {plugin.provider}, which {reason} (from {wanted.source})"


def _not_found(wanted: PluginQuery, usable: Sequence[Installed]) -> str:
    names = sorted({one.name for one in usable})
    parts = [f"{wanted} not found; installed: {', '.join(names) or 'none'}"]
    if wanted.distribution and wanted.name in names:
        offering = ", ".join(sorted(one.provider for one in usable if one.name == wanted.name))
        parts = [f"{wanted} of distribution {wanted.distribution!r} not found; that name is offered by {offering}"]
    elif (wanted.kind, wanted.name) in _PUBLISHED:
        parts.append(_try(wanted.kind, wanted.name))
    else:
        published = [name for kind, name in _PUBLISHED if kind == wanted.kind]
        if meant := near_miss(wanted.name, {*names, *published}):
            parts.append(f"did you mean {meant!r}?")
            if meant not in names:
                parts.append(_try(wanted.kind, meant))
    return "; ".join(parts) + f" (from {wanted.source})"


def _try(kind: str, name: str) -> str:
    return f"try: pip install {_PUBLISHED[kind, name]}"
