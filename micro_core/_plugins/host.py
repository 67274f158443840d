"""The plugin host: from a name in a string to an object, through entry points and pluggy (docs/plugins.md).

One host belongs to one service.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from micro_core._plugins.arguments import defaults_of
from micro_core._plugins.contracts import CONTRACTS, EXTENSION
from micro_core._plugins.entry_points import BUILT_IN, Installed, PluginQuery, canonical, is_allowed, select
from micro_core._plugins.loaded import SPECIFICATIONS, PluginConfigError, PluginObject, call_hook, hooks_of
from micro_core._plugins.scan import installed
from micro_core.codec import Codec
from micro_core.errors import ConfigError, PluginError
from micro_core.lifespan import ServiceLife
from micro_core.middleware import CallMiddleware, Guard, HandlerMiddleware, PublishMiddleware

if TYPE_CHECKING:
    from micro_core._settings.strings import Part

__all__ = ["PluginHost"]

log = logging.getLogger("micro.plugins")

MAKES_EXTENSION: Final = "make_extension"


class PluginHost:
    """Finds, checks and calls plugins of distributions that ``allow`` names (empty: all) and ``block`` does not."""

    def __init__(self, *, allow: Sequence[str] = (), block: Sequence[str] = ()) -> None:
        self._allow = tuple(allow)
        self._block = tuple(block)
        self._registered: dict[tuple[str, str], object] = {}
        self._extensions: dict[str, PluginObject] = {}

    def __repr__(self) -> str:
        return f"<PluginHost extensions={', '.join(self._extensions) or 'none'}>"

    def restricted(self, *, allow: Sequence[str], block: Sequence[str]) -> PluginHost:
        """Return a new host with what is registered here, without extensions: for one service."""
        host = PluginHost(allow=allow, block=block)
        host._registered.update(self._registered)
        return host

    def offers(self, kind: str, name: str) -> bool:
        """Tell whether the host can load a plugin of that name, importing nothing."""
        return (kind, name) in self._registered or any((one.kind, one.name) == (kind, name) for one in self.installed())

    def installed(self) -> tuple[Installed, ...]:
        """Return the installed plugins that this host may import."""
        return tuple(one for one in installed() if is_allowed(one.distribution, self._allow, self._block))

    def register(self, kind: str, name: str, plugin: object) -> None:
        """Offer a plugin, a module or another object with hooks, under a name: for tests and frozen programs.

        It goes before whatever is installed under that name. ``kind`` may be ``extension``. Raises `PluginError` where
        its hooks do not fit, `ConfigError` for an unknown kind.
        """
        if kind not in CONTRACTS and kind != EXTENSION:
            raise ConfigError(f"{kind!r} is no kind of plugin; kinds: {', '.join([*CONTRACTS, EXTENSION])}")
        PluginObject(object=plugin, title=f"{kind} {name!r} (registered in code)").check()
        self._registered[kind, name] = plugin

    def make_codecs(self, part: Part) -> tuple[Codec, ...]:
        """Return the codecs that the plugin which ``part`` names makes. Raises as `make`."""
        made = self.make(part)
        assert isinstance(made, tuple)  # as `make` has checked
        return made

    def make(self, part: Part, **made: object) -> object:
        """Return what the plugin that ``part`` names makes: for a codec a tuple of codecs, else one object of the kind.

        ``made`` are the further arguments of the hook, as hookspecs.py lists them: parts made before, and settings;
        those that arguments.py has a default for may be left out.
        Raises `PluginNotFound`, and `PluginError` naming the distribution, its version and the cause.
        """
        hook = f"make_{part.kind}"
        arguments = {
            "name": part.name, "address": part.addresses, "path": part.path, "options": part.options,
            **defaults_of(part.kind), **made,
        }  # fmt: skip
        _check_arguments(hook, arguments)
        plugin = self._load(_wanted(part))
        if hook not in hooks_of(plugin.object):
            offered = ", ".join(hooks_of(plugin.object)) or "none"
            raise PluginError(f"{plugin.title}: it has no hook {hook}; its hooks: {offered}")
        _check_used(part, plugin, hook)
        result = call_hook(hook, plugin, tuple(self._extensions.values()), arguments)
        return _checked(part.kind, result, f"{plugin.title}: {hook}")

    def takes(self, part: Part, argument: str) -> bool:
        """Tell whether the plugin that ``part`` names, or an extension round it, reads an argument of its hook."""
        hook = f"make_{part.kind}"
        return any(argument in one.takes(hook) for one in (self._load(_wanted(part)), *self._extensions.values()))

    def title(self, part: Part) -> str:
        """Return what errors call the plugin that ``part`` names."""
        return self._load(_wanted(part)).title

    def check(self, kind: str, instance: object) -> None:
        """Raise `ConfigError` where ``instance`` cannot serve as a part of that kind."""
        if kind not in CONTRACTS:
            raise ConfigError(f"argument {kind}= cannot be {_type_of(instance)}")
        contract = CONTRACTS[kind]
        if not isinstance(instance, contract):
            instead = f"; make an instance: {kind}={instance.__name__}(…)" if isinstance(instance, type) else ""
            raise ConfigError(
                f"argument {kind}= takes a configuration string or a {contract.__name__}, "
                f"not {_type_of(instance)}{instead}"
            )

    # Extensions

    def use_extensions(self, parts: Sequence[Part]) -> None:
        """Load the extensions that ``parts`` name, and make those that are made; the first becomes the outermost.

        Raises `PluginNotFound`, and `PluginError` naming the distribution, its version and the cause.
        """
        for part in parts:
            plugin = self._load(_wanted(part))
            if MAKES_EXTENSION in hooks_of(plugin.object):
                plugin = _made(part, plugin)
            else:
                _check_used(part, plugin, MAKES_EXTENSION)
            _check_extension(plugin)
            self._extensions.setdefault(part.name, plugin)

    @overload
    def middleware(self, kind: Literal["client", "call"]) -> tuple[CallMiddleware, ...]: ...
    @overload
    def middleware(self, kind: Literal["handler", "subscriber"]) -> tuple[HandlerMiddleware, ...]: ...
    @overload
    def middleware(self, kind: Literal["publish"]) -> tuple[PublishMiddleware, ...]: ...
    def middleware(self, kind: Literal["client", "call", "handler", "subscriber", "publish"]) -> tuple[Any, ...]:
        """Return the middleware of the extensions, the outermost first. Raises `PluginError`."""
        return tuple(self._from_extensions(f"{kind}_middleware", Callable, {}))

    def guards(self) -> tuple[Guard, ...]:
        """Return what the extensions have look at requests, the outermost first. Raises `PluginError`."""
        return tuple(self._from_extensions("guard", Callable, {}))

    def credentials(self) -> dict[str, str]:
        """Return the headers that tell others who we are; of several extensions the outermost counts."""
        found: dict[str, str] = {}
        for headers in self._from_extensions("credentials", Mapping, {}):
            found = {**headers, **found}
        return found

    def lifespans(self, service: ServiceLife) -> tuple[AbstractAsyncContextManager[object], ...]:
        """Return the contexts that extensions put round a service, the outermost first. Raises `PluginError`."""
        return tuple(self._from_extensions("lifespan", AbstractAsyncContextManager, {"service": service}))

    def _from_extensions(self, hook: str, expected: Any, arguments: dict[str, object]) -> Iterator[Any]:
        for plugin in self._extensions.values():
            for result in call_hook(hook, plugin, (), arguments):
                if not isinstance(result, expected):
                    raise PluginError(f"{plugin.title}: {hook} returned {_type_of(result)}, not a {expected.__name__}")
                yield result

    # From a name to a module

    def _load(self, wanted: PluginQuery) -> PluginObject:
        if not wanted.distribution and (wanted.kind, wanted.name) in self._registered:
            registered = self._registered[wanted.kind, wanted.name]
            return PluginObject(object=registered, title=f"{wanted} (registered in code)")
        plugin = select(wanted, installed(), self._allow, self._block)
        title = f"{wanted} of {plugin.provider} (from {wanted.source})"
        _check_core_version(plugin, title)
        loaded = PluginObject(object=_import(plugin, title), title=title)
        loaded.check()
        return loaded


def _wanted(part: Part) -> PluginQuery:
    return PluginQuery(kind=part.kind, name=part.name, distribution=part.distribution, source=part.source)


def _check_used(part: Part, plugin: PluginObject, hook: str) -> None:
    """Raise for what the configuration says and nobody would read; values are not shown, they may be secret."""
    taken = plugin.takes(hook)
    if part.options and "options" not in taken:
        raise PluginConfigError(f"{plugin.title}: it has no option {next(iter(part.options))!r}; it takes none")
    if part.addresses and "address" not in taken:
        raise PluginConfigError(f"{plugin.title}: it takes no address; write {part.name!r} without one")
    if part.path and "path" not in taken:
        raise PluginConfigError(f"{plugin.title}: it takes no path; write {part.name!r} without one")


def _import(plugin: Installed, title: str) -> object:
    module, _, attribute = plugin.value.partition(":")
    try:
        imported = importlib.import_module(module.strip())
        return operator.attrgetter(attribute.strip())(imported) if attribute else imported
    except (Exception, SystemExit) as error:  # other people's code; a plugin must not end the process
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        raise PluginError(f"{title}: importing {plugin.value} failed with {cause}") from error


def _check_core_version(plugin: Installed, title: str) -> None:
    """Raise `PluginError` where the plugin's own metadata say that it was built for another plugin API."""
    ours = next((one.version for one in installed() if canonical(one.distribution) == BUILT_IN), None)
    if ours is None or not plugin.core_requirements:
        return
    from packaging.requirements import InvalidRequirement, Requirement

    for text in plugin.core_requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise PluginError(f"{title}: its requirement {text[:100]!r} cannot be read") from error
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and not requirement.specifier.contains(ours, prereleases=True):
            raise PluginError(
                f"{title}: it was built for {BUILT_IN} {requirement.specifier}, and this is {BUILT_IN} {ours}; "
                f"install a release of {plugin.distribution} for {BUILT_IN} {ours}, "
                f"or a {BUILT_IN} within {requirement.specifier}"
            )


def _made(part: Part, plugin: PluginObject) -> PluginObject:
    """Return the extension that a plugin makes for what the configuration string says. Raises `PluginError`."""
    if others := [hook for hook in hooks_of(plugin.object) if hook != MAKES_EXTENSION]:
        raise PluginError(f"{plugin.title}: the hook {others[0]} belongs to what {MAKES_EXTENSION} returns")
    _check_used(part, plugin, MAKES_EXTENSION)
    arguments = {"name": part.name, "address": part.addresses, "path": part.path, "options": part.options}
    made = PluginObject(object=call_hook(MAKES_EXTENSION, plugin, (), arguments), title=plugin.title)
    if not hooks_of(made.object):
        raise PluginError(f"{plugin.title}: {MAKES_EXTENSION} returned {_type_of(made.object)}, which has no hooks")
    made.check()
    return made


def _check_extension(plugin: PluginObject) -> None:
    for hook, options in hooks_of(plugin.object).items():
        if hook.startswith("make_") and not (options.get("wrapper") or options.get("hookwrapper")):
            raise PluginError(
                f"{plugin.title}: {hook} of an extension has to be a wrapper; mark it with @hookimpl(wrapper=True)"
            )


def _check_arguments(hook: str, arguments: dict[str, object]) -> None:
    if hook not in SPECIFICATIONS:
        raise ConfigError(f"{hook.removeprefix('make_')!r} is no kind of part; kinds: {', '.join(CONTRACTS)}")
    specified = set(inspect.signature(SPECIFICATIONS[hook]).parameters)
    if specified != arguments.keys():
        differing = ", ".join(sorted(specified ^ arguments.keys()))
        raise TypeError(f"{hook} is called with the arguments that hookspecs.py lists; missing or unknown: {differing}")


def _checked(kind: str, result: object, maker: str) -> object:
    contract = CONTRACTS[kind]
    if kind == "codec" and isinstance(result, Sequence):
        wrong = next((one for one in result if not isinstance(one, contract)), None)
        if wrong is None and result:
            return tuple(result)
        result = result if wrong is None else wrong
    elif isinstance(result, contract):
        return (result,) if kind == "codec" else result
    raise PluginError(f"{maker} returned {_type_of(result)}, not a {contract.__name__}")


def _type_of(value: object) -> str:
    if value is None:
        return "None"
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
