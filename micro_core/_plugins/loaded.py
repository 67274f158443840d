"""A plugin once its module is imported: its hooks checked, and called with the wrappers of extensions round them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pluggy

from micro_core import hookspecs
from micro_core._settings.near_miss import near_miss
from micro_core.errors import ConfigError, MicroError, PluginError

__all__ = ["PluginConfigError", "PluginObject", "call_hook", "hooks_of"]

_MARKER: Final = f"{hookspecs.PROJECT}_impl"
_SPECS: Final = f"{hookspecs.PROJECT}_spec"


class PluginConfigError(PluginError, ConfigError):
    """A plugin refuses what the configuration says: an unknown option, or a wrong value."""


class PluginObject(msgspec.Struct, frozen=True, kw_only=True):
    """A module, or another object with hook implementations, and the words that errors name it by."""

    object: object
    title: str
    """``registry 'mdns' of micro-registry-mdns 0.1.0 (from variable MICRO_REGISTRY)``."""

    def check(self) -> None:
        """Raise `PluginError` for a hook that is misspelt, not marked, or takes arguments that there are not."""
        unmarked = [name for name, hook in _functions(self.object) if not hasattr(hook, _MARKER)]
        if meant := _meant_as_hooks(unmarked):
            raise PluginError(f"{self.title}: the function {meant[0]!r} is no hook without @hookimpl above it")
        try:
            _manager([self.object])
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{self.title}: {_one_line(error)}{self._misspelt()}") from error

    def _misspelt(self) -> str:
        for name in hooks_of(self.object):
            if name not in SPECIFICATIONS and (meant := near_miss(name, SPECIFICATIONS)):
                return f"; did you mean {meant!r}?"
        return ""

    def takes(self, hook: str) -> tuple[str, ...]:
        """Return the names of the arguments that the implementation of a hook declares."""
        implementations = getattr(_manager([self.object]).hook, hook).get_hookimpls()
        return tuple(name for one in implementations for name in one.argnames)


def hooks_of(plugin: object) -> dict[str, Mapping[str, object]]:
    """Return, by hook name, how the implementations in a plugin are marked."""
    marked = {name: getattr(hook, _MARKER) for name, hook in _functions(plugin) if hasattr(hook, _MARKER)}
    return {options.get("specname") or name: options for name, options in marked.items()}


def call_hook(hook: str, plugin: PluginObject, around: Sequence[PluginObject], arguments: Mapping[str, object]) -> Any:
    """Call one hook on one plugin, within the wrappers of ``around``, the first outermost.

    Returns what the hook returned: for a hook without ``firstresult`` a list. Every exception leaves as a
    `PluginError`, a `ConfigError` as one that is both.
    """
    others = [one.object for one in around if one.object is not plugin.object]
    manager = _manager([plugin.object, *reversed(others)])  # pluggy calls the last registered first
    names = "".join(f", wrapped by {one.title}" for one in around if hook in hooks_of(one.object))
    try:
        return getattr(manager.hook, hook)(**arguments)
    except ConfigError as error:
        raise PluginConfigError(f"{plugin.title}{names}: {error}") from error
    except MicroError as error:
        raise PluginError(f"{plugin.title}{names}: {error}") from error
    except Exception as error:  # other people's code
        raise PluginError(f"{plugin.title}{names}: {hook} raised {type(error).__name__}: {_one_line(error)}") from error


def _manager(objects: Sequence[object]) -> pluggy.PluginManager:
    """Return a manager of these objects alone. Raises `pluggy.PluginValidationError` for hooks that do not fit."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for number, one in enumerate(objects):
        manager.register(one, name=str(number))
    manager.check_pending()
    return manager


def _functions(plugin: object) -> list[tuple[str, object]]:
    """Return the public functions and methods of a plugin, without executing properties."""
    names = [name for name in dir(plugin) if not name.startswith("_")]
    found = [(name, inspect.getattr_static(plugin, name)) for name in names]
    return [(name, getattr(plugin, name)) for name, value in found if _is_function(value)]


def _is_function(value: object) -> bool:
    return inspect.isroutine(value) or isinstance(value, staticmethod | classmethod)


def _meant_as_hooks(names: Sequence[str]) -> list[str]:
    exact = [name for name in names if name in SPECIFICATIONS]
    return exact or [name for name in names if near_miss(name, SPECIFICATIONS, cutoff=0.85)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__


def _specifications() -> dict[str, Callable[..., object]]:
    functions = inspect.getmembers(hookspecs, inspect.isfunction)
    return {name: function for name, function in functions if hasattr(function, _SPECS)}


SPECIFICATIONS: Final = _specifications()
"""Every hook there is, by name."""
