"""Handlers from plain classes and functions: what an endpoint is called and takes, read off names and type hints."""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

import msgspec
from msgspec.structs import replace

from micro_core.context import Context
from micro_core.describe import describe
from micro_core.errors import ConfigError, MicroError
from micro_core.registry import Endpoint
from micro_core.server import Handler, HandlerKind

__all__ = [
    "EndpointOptions",
    "camel_case",
    "endpoint",
    "endpoint_of",
    "endpoint_options",
    "handler_of",
    "idempotent",
    "message_of",
    "request_picker",
    "with_class_options",
]

_MARK = "__micro_endpoint__"
_STREAMS = (collections.abc.AsyncIterator, collections.abc.AsyncIterable, collections.abc.AsyncGenerator)
_LONGEST_DESCRIPTION = 200

Function = TypeVar("Function", bound=Callable[..., object])


class EndpointOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a decorator says about one endpoint; empty means: as the function's name and hints say."""

    name: str = ""
    idempotent: bool = False
    internal: bool = False
    metadata: Mapping[str, str] = {}
    errors: tuple[type[MicroError], ...] = ()

    def over(self, other: EndpointOptions) -> EndpointOptions:
        """Return these options, completed by ``other``."""
        return EndpointOptions(
            name=self.name or other.name,
            idempotent=self.idempotent or other.idempotent,
            internal=self.internal or other.internal,
            metadata={**other.metadata, **self.metadata},
            errors=tuple(dict.fromkeys((*self.errors, *other.errors))),
        )


@overload
def endpoint(function: Function, /) -> Function: ...
@overload
def endpoint(
    *,
    name: str = "",
    idempotent: bool = False,
    internal: bool = False,
    metadata: Mapping[str, str] | None = None,
    errors: Sequence[type[MicroError]] = (),
) -> Callable[[Function], Function]: ...
def endpoint(
    function: Function | None = None,
    /,
    *,
    name: str = "",
    idempotent: bool = False,
    internal: bool = False,
    metadata: Mapping[str, str] | None = None,
    errors: Sequence[type[MicroError]] = (),
) -> Function | Callable[[Function], Function]:
    """Say how a handler's method or function is published.

    ``name`` replaces the whole name (``Greeter.Hello``) or, without a dot, the method's; ``idempotent``: it may be
    executed twice; ``internal``: answered, but not listed in the registry; ``metadata`` goes to the registry;
    ``errors`` are the application's own error classes that proxies raise at the caller. A method that overrides one of
    a contract inherits all of it. Raises `ConfigError` for errors that are none.
    """
    options = EndpointOptions(
        name=name,
        idempotent=idempotent,
        internal=internal,
        metadata=dict(metadata or {}),
        errors=_checked_errors(errors),
    )

    def mark(function: Function) -> Function:
        setattr(function, _MARK, options.over(endpoint_options(function)))
        return function

    return mark if function is None else mark(function)


def _checked_errors(errors: Sequence[type[MicroError]]) -> tuple[type[MicroError], ...]:
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, MicroError)):
            raise ConfigError(f"@endpoint(errors=…): {error!r} is no subclass of MicroError, so it cannot be sent")
    names = [error.__name__ for error in errors]
    if len(names) != len(set(names)):
        raise ConfigError(f"@endpoint(errors=…): two of {', '.join(names)} have one name, by which they travel")
    return tuple(errors)


def idempotent(function: Function) -> Function:
    """Declare that a handler may be executed twice, so that clients may send a call again (docs/protocol.md §4)."""
    return endpoint(idempotent=True)(function)


def endpoint_options(function: object) -> EndpointOptions:
    """Return what the decorators said about a function."""
    options = getattr(function, _MARK, None)
    return options if isinstance(options, EndpointOptions) else EndpointOptions()


def camel_case(name: str) -> str:
    """Return a Python name as Go spells it: ``greet_all`` is ``GreetAll``."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_\W]+", name) if part)


def handler_of(function: Callable[..., object], prefix: str, *, marked_as: Sequence[object] = ()) -> Handler:
    """Return the handler of one function or bound method. Raises `ConfigError` where it cannot be one.

    ``marked_as`` are the definitions whose decorators count, the nearest first: by default the function itself.
    """
    options = EndpointOptions()
    for definition in marked_as or (function,):
        options = options.over(endpoint_options(definition))
    name = options.name or camel_case(function.__name__)
    name = name if "." in name else f"{prefix}.{name}"
    if name.count(".") != 1:
        raise ConfigError(f"endpoint {name!r}: an endpoint's name is of the form 'Type.Method', with one dot")
    shape = _Shape(function, name)
    return Handler(
        name=name,
        kind=shape.kind,
        function=shape.adapted(),
        request_type=shape.request_type,
        response_type=shape.response_type,
        idempotent=options.idempotent,
        internal=options.internal,
        metadata=options.metadata,
        description=(inspect.getdoc(function) or "").strip().split("\n")[0][:_LONGEST_DESCRIPTION],
        errors=options.errors,
    )


def message_of(function: Callable[..., object]) -> tuple[Callable[[Context, Any], Any], Any]:
    """Return a subscriber as a function of context and message, and the message's type. Raises `ConfigError`."""
    shape = _Shape(function, function.__qualname__)
    if shape.kind is not HandlerKind.UNARY:
        raise ConfigError(f"subscriber {function.__qualname__}: a subscriber takes one message and returns nothing")
    return shape.adapted(), shape.request_type


def request_picker(function: Callable[..., Any]) -> Callable[..., object]:
    """Return a function that takes a handler's arguments, however they are passed, and returns the request."""
    signature, name = inspect.signature(function), _Shape(function, function.__qualname__).request_name
    first = next(iter(signature.parameters), "")

    def pick(*arguments: object, **named: object) -> object:
        if len(arguments) == 1 and not named and first == name:
            return arguments[0]
        return signature.bind(*arguments, **named).arguments.get(name)

    return pick


def endpoint_of(handler: Handler) -> Endpoint:
    """Return the description of a handler for the registry (docs/wire.md §3.10)."""
    metadata = dict(handler.metadata)
    if handler.kind is not HandlerKind.UNARY:
        metadata["stream"] = "true"
    if handler.idempotent:
        metadata["idempotent"] = "true"
    if handler.description:
        metadata.setdefault("description", handler.description)
    request, response = describe(handler.request_type), describe(handler.response_type)
    return Endpoint(name=handler.name, request=request, response=response, metadata=metadata)


class _Shape:
    """What the signature of a function says."""

    def __init__(self, function: Callable[..., object], name: str) -> None:
        self._function = function
        self._name = name
        hints = self._hints()
        self._context, self.request_name = self._parameters(hints)
        annotated = hints.get(self.request_name, Any) if self.request_name else Any
        takes_stream, self.request_type = _unwrapped(annotated)
        returned = hints.get("return", Any)
        gives_stream, self.response_type = _unwrapped(returned)
        gives_stream = gives_stream or inspect.isasyncgenfunction(function)
        self.kind = _KINDS[takes_stream, gives_stream]
        if gives_stream and inspect.iscoroutinefunction(function):
            raise ConfigError(f"{name} is annotated to return a stream: give the answers with `yield`")
        if not gives_stream and not inspect.iscoroutinefunction(function):
            raise ConfigError(f"{name} is not `async def`: make it so, or start its name with an underscore")

    def _hints(self) -> dict[str, object]:
        try:
            return typing.get_type_hints(self._function)
        except NameError as error:
            raise ConfigError(
                f"{self._name}: the type hint {error.name!r} is not known where the handler's module can see it"
            ) from error
        except Exception as error:  # annotations are other people's code
            raise ConfigError(f"{self._name}: its type hints cannot be read: {error!r}") from error

    def _parameters(self, hints: dict[str, object]) -> tuple[str, str]:
        """Return the names of the parameters for context and request, empty where there is none."""
        context = request = ""
        for parameter in inspect.signature(self._function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            hint = hints.get(parameter.name)
            if hint is Context or Context in typing.get_args(hint) or (hint is None and parameter.name == "context"):
                context = parameter.name
            elif not request:
                request = parameter.name
            elif parameter.default is parameter.empty:
                raise ConfigError(f"{self._name} takes {parameter.name!r} too: a handler takes a request and a Context")
        return context, request

    def adapted(self) -> Callable[[Context, Any], object]:
        """Return the function with the signature that the server calls."""
        function, context_name, request_name = self._function, self._context, self.request_name
        if not request_name and not context_name:
            return lambda context, request: function()
        if not request_name:
            return lambda context, request: function(**{context_name: context})
        if not context_name:
            return lambda context, request: function(request)
        return lambda context, request: function(**{request_name: request, context_name: context})


_KINDS = {
    (False, False): HandlerKind.UNARY,
    (False, True): HandlerKind.SERVER_STREAM,
    (True, False): HandlerKind.CLIENT_STREAM,
    (True, True): HandlerKind.BIDIRECTIONAL,
}


def _unwrapped(hint: object) -> tuple[bool, object]:
    """Return whether a hint is a stream, and of what."""
    if typing.get_origin(hint) in _STREAMS:
        return True, typing.get_args(hint)[0]
    if hint in _STREAMS:
        return True, Any
    return False, hint


def with_class_options(handler: Handler, metadata: Mapping[str, str], internal: bool) -> Handler:
    """Return a handler with what was said about its whole class."""
    return replace(handler, metadata={**metadata, **handler.metadata}, internal=internal or handler.internal)
