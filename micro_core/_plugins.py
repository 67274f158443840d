"""The plugin host: from the name of a part to the object, through entry points and hooks (docs/plugins.md)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import pluggy

from micro_core import hookspecs
from micro_core._configuration_string import KINDS, Part
from micro_core._entry_points import Installed, installed, refresh
from micro_core._near import did_you_mean
from micro_core.broker import Broker
from micro_core.client import Caller
from micro_core.codec import Codec
from micro_core.errors import ConfigError, PluginError, PluginNotFound
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.server import Server
from micro_core.transport import Transport

if TYPE_CHECKING:
    from micro_core.service import Service

__all__ = ["Installed", "PluginHost", "installed", "refresh"]

CONTRACTS: dict[str, type] = {
    "registry": Registry,
    "selector": Selector,
    "transport": Transport,
    "codec": Codec,
    "broker": Broker,
    "client": Caller,
    "server": Server,
}

CORE = "micro-core"
API = "0.1.0"
"""The version of the plugin API: what a plugin's own requirement on micro-core is compared with."""

PUBLISHED = {
    ("registry", "mdns"): "micro-registry-mdns",
    ("transport", "http"): "micro-transport-http",
    ("broker", "http"): "micro-broker-http",
    ("codec", "proto"): "micro-codec-proto",
}
"""What we publish ourselves: the only names that an error advises to install."""

_HOOKS = tuple(name for name in vars(hookspecs) if inspect.isfunction(getattr(hookspecs, name)))
_MIDDLEWARE = ("client", "call", "handler", "subscriber")


class PluginHost:
    """Loads what is selected, and nothing else. One for each service or client.

    ``allow`` and ``block`` name distributions; a plugin of one that is not allowed is not even imported.
    """

    def __init__(self, *, allow: Sequence[str] = (), block: Sequence[str] = ()) -> None:
        self._allow = frozenset(allow)
        self._block = frozenset(block)
        self._plugins = pluggy.PluginManager(hookspecs.PROJECT)
        self._plugins.add_hookspecs(hookspecs)
        self._registered: dict[tuple[str, str], object] = {}
        self._extensions: list[object] = []

    def __repr__(self) -> str:
        return f"<PluginHost {[name for name, _ in self._plugins.list_name_plugin()]}>"

    def register(self, kind: str, name: str, plugin: object) -> None:
        """Offer an object with hook implementations under a name, for tests and frozen programs; it goes before entry points."""
        if kind not in (*KINDS, "extension"):
            raise ConfigError(f"unknown kind {kind!r}{did_you_mean(kind, KINDS)}; valid: {', '.join(KINDS)}, extension")
        self._registered[kind, name] = plugin

    def check(self, kind: str, instance: object) -> None:
        """Raise `ConfigError` unless an object is a part of that kind."""
        if not isinstance(instance, CONTRACTS[kind]):
            raise ConfigError(
                f"{kind}={type(instance).__name__}(...) (argument {kind}=): it is no micro_core.{CONTRACTS[kind].__name__}"
            )

    def make(self, part: Part, **made: Any) -> Any:
        """Return the object that a part names; for codecs a tuple of them.

        ``made`` are the parts that the hook takes beside the configuration. Raises `PluginNotFound`, `PluginError` naming
        distribution, version and cause, and `ConfigError` for options and addresses that the plugin refuses.
        """
        plugin, whose = self._load(part.kind, part.name, part.distribution, part.source)
        hook = f"make_{part.kind}"
        if not any(each.plugin is plugin for each in getattr(self._plugins.hook, hook).get_hookimpls()):
            raise PluginError(f"{whose} offers no {part.kind}: its module has no @hookimpl {hook}")
        others = [each for each in self._plugins.get_plugins() if each is not plugin and each not in self._extensions]
        call = self._plugins.subset_hook_caller(hook, remove_plugins=others)
        try:
            result = call(name=part.name, address=part.addresses, path=part.path, options=part.options, **made)
        except ConfigError as error:
            raise ConfigError(f"{part.kind} {part!r} ({whose}): {error}") from error
        except PluginError as error:
            raise PluginError(f"{whose}: {error}") from error
        except Exception as error:
            raise PluginError(f"{whose} failed in {hook}: {type(error).__name__}: {error}") from error
        return self._checked(part.kind, result, whose)

    def _checked(self, kind: str, result: object, whose: str) -> Any:
        contract = CONTRACTS[kind]
        results = tuple(result) if kind == "codec" and isinstance(result, list | tuple) else (result,)
        for each in results:
            if not isinstance(each, contract):
                raise PluginError(
                    f"{whose}: make_{kind} returned {type(each).__name__}, which is no micro_core.{contract.__name__}"
                )
        return results if kind == "codec" else result

    def use_extensions(self, names: Sequence[str], source: str = "extensions") -> None:
        """Load extensions; the first named is the outermost. Raises `PluginNotFound` and `PluginError`."""
        for name in names:
            bare, _, distribution = name.partition("@")
            plugin, _ = self._load("extension", bare, distribution, source)
            if plugin not in self._extensions:
                self._extensions.append(plugin)

    def middleware(self, kind: str) -> tuple[Any, ...]:
        """Return the middleware of a kind (client, call, handler, subscriber), outermost first."""
        if kind not in _MIDDLEWARE:
            raise ValueError(f"no middleware of kind {kind!r}; there is: {', '.join(_MIDDLEWARE)}")
        return tuple(self._each_extension(f"{kind}_middleware"))

    def lifespans(self, service: Service) -> tuple[AbstractAsyncContextManager[object], ...]:
        """Return the contexts that extensions want entered before a service listens."""
        return tuple(self._each_extension("lifespan", service=service))

    def _each_extension(self, hook: str, **arguments: Any) -> Iterable[Any]:
        for extension in self._extensions:
            others = [each for each in self._plugins.get_plugins() if each is not extension]
            for result in self._plugins.subset_hook_caller(hook, remove_plugins=others)(**arguments):
                if result is not None:
                    yield result

    def _load(self, kind: str, name: str, distribution: str, source: str) -> tuple[object, str]:
        """Return the plugin of a name, and whose it is, for errors."""
        plugin = self._registered.get((kind, name))
        if plugin is not None and not distribution:
            whose = f"{kind} {name!r}, registered by the program"
            self._admit(plugin, f"{kind}:{name}", whose)
            return plugin, whose
        found = self._find(kind, name, distribution, source)
        whose = f"{kind} {name!r} of {found}"
        self._check_api(found, whose)
        try:
            plugin = importlib.import_module(found.module)
        except Exception as error:
            raise PluginError(f"{whose} cannot be imported: {type(error).__name__}: {error}") from error
        self._admit(plugin, f"{found.distribution}:{found.module}", whose)
        return plugin, whose

    def _find(self, kind: str, name: str, distribution: str, source: str) -> Installed:
        """Return the one entry point that is meant, without importing it."""
        offered = [each for each in installed() if each.kind == kind]
        named = [each for each in offered if each.name == name and distribution in ("", each.distribution)]
        allowed = [each for each in named if self._may_load(each)]
        if not allowed:
            if named:
                raise PluginError(
                    f"{kind} {name!r} ({source}) of {named[0]} is blocked: "
                    "see the settings plugins_block and plugins_allow"
                )
            raise PluginNotFound(self._not_found(kind, name, distribution, source, offered))
        if len(allowed) > 1:
            choices = " or ".join(f"{name}@{each.distribution}" for each in allowed)
            raise PluginError(
                f"{kind} {name!r} ({source}) is offered by {' and by '.join(map(str, allowed))}: choose with {choices}"
            )
        return allowed[0]

    def _may_load(self, each: Installed) -> bool:
        if each.distribution == CORE:
            return True
        return each.distribution not in self._block and (not self._allow or each.distribution in self._allow)

    def _not_found(self, kind: str, name: str, distribution: str, source: str, offered: Sequence[Installed]) -> str:
        names = sorted({each.name for each in offered} | {n for k, n in self._registered if k == kind})
        text = f"{kind} {name!r} not found ({source}); installed: {', '.join(names) or 'none'}"
        if distribution:
            there = [each for each in offered if each.name == name]
            return f"{text}; {name!r} is offered by {', '.join(map(str, there)) or 'nobody'}, not by {distribution!r}"
        if (kind, name) in PUBLISHED:
            return f"{text}; try: pip install {PUBLISHED[kind, name]}"
        return text + did_you_mean(name, {*names, *(n for k, n in PUBLISHED if k == kind)})

    def _check_api(self, found: Installed, whose: str) -> None:
        """Refuse a plugin that was built for another plugin API, before it is imported."""
        if found.distribution == CORE or not found.requires_core:
            return
        from packaging.specifiers import SpecifierSet

        if not SpecifierSet(found.requires_core).contains(API, prereleases=True):
            raise PluginError(
                f"{whose} is for micro-core {found.requires_core}, and this is {API}: "
                f"install a version of {found.distribution} for {API}, or the micro-core that it asks for"
            )

    def _admit(self, plugin: object, name: str, whose: str) -> None:
        """Register a plugin with pluggy, once, and refuse one whose hooks are misspelt or unmarked."""
        if self._plugins.is_registered(plugin):
            return
        try:
            self._plugins.register(plugin, name)
            self._plugins.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._plugins.is_registered(plugin):
                self._plugins.unregister(plugin)
            raise PluginError(f"{whose} is not valid: {_first_line(error)}{self._misspelt(plugin)}") from error
        for hook in _HOOKS:
            function = getattr(plugin, hook, None)
            if inspect.isfunction(function) and getattr(function, "__module__", "") == getattr(
                plugin, "__name__", None
            ):
                if not hasattr(function, f"{hookspecs.PROJECT}_impl"):
                    self._plugins.unregister(plugin)
                    raise PluginError(f"{whose} is not valid: {hook} has no @hookimpl, so it would be ignored")

    def _misspelt(self, plugin: object) -> str:
        marked = [
            name
            for name, member in inspect.getmembers(plugin, inspect.isroutine)
            if hasattr(member, f"{hookspecs.PROJECT}_impl") and name not in _HOOKS
        ]
        return "".join(f"; there is no hook {name!r}{did_you_mean(name, _HOOKS)}" for name in marked)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
