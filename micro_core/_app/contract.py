"""What a contract says: the endpoints of a class, read off once for its callers and its servers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import msgspec

from micro_core._app.handlers import endpoint_options, handler_of, request_picker
from micro_core.errors import ConfigError, MicroError
from micro_core.server import Handler, HandlerKind

__all__ = ["ContractEndpoint", "contract_of", "handlers_of", "unimplemented"]


class ContractEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as its callers know it."""

    name: str
    """``Greeter.Hello``."""
    kind: HandlerKind
    request: Callable[..., Any]
    """Takes what the method takes, and returns the request."""
    request_type: object
    response_type: object
    idempotent: bool
    errors: tuple[type[MicroError], ...]
    """The application's error classes that it may raise."""


def contract_of(contract: object) -> dict[str, ContractEndpoint]:
    """Return the endpoints of a class by the names of their methods, whether implemented or not.

    Raises `ConfigError` for what is no class, and for methods that cannot be handlers.
    """
    if not isinstance(contract, type):
        raise ConfigError(f"a proxy is made of a handler's class, not of {contract!r}")
    prefix = endpoint_options(contract).name or contract.__name__
    endpoints = {}
    for name, function in _public_functions(contract):
        bound = _as_bound(contract, name, function)
        handler = handler_of(bound, prefix, marked_as=_definitions(contract, name))
        endpoints[name] = ContractEndpoint(
            name=handler.name,
            kind=handler.kind,
            request=request_picker(bound),
            request_type=handler.request_type,
            response_type=handler.response_type,
            idempotent=handler.idempotent,
            errors=handler.errors,
        )
    return endpoints


def handlers_of(instance: object, prefix: str = "") -> Iterator[Handler]:
    """Yield a handler for each public method of an object, ``prefix`` being the class's name where it is empty.

    Raises `ConfigError` for methods that cannot be handlers, and for those of a contract that nobody implemented.
    """
    kind = type(instance)
    prefix = prefix or endpoint_options(kind).name or kind.__name__
    for name, function in _public_functions(kind):
        owner = next(each for each in kind.__mro__ if name in vars(each))
        if _is_stub(function, owner):
            asked = "" if owner is kind else f", which its contract {owner.__name__} asks for"
            raise ConfigError(f"{kind.__name__} does not implement {name}{asked}: write it")
        yield handler_of(getattr(instance, name), prefix, marked_as=_definitions(kind, name))


def unimplemented(kind: type) -> ConfigError | None:
    """Return the error of a class of which no instance can be made; None where one can."""
    if getattr(kind, "_is_protocol", False):
        return ConfigError(f"{kind.__name__} is a Protocol: register a class that implements it")
    missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
    return ConfigError(f"{kind.__name__} does not implement {missing}: write what is missing") if missing else None


def _public_functions(kind: type) -> Iterator[tuple[str, FunctionType]]:
    return (
        (name, function) for name, function in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    )


def _definitions(kind: type, name: str) -> tuple[object, ...]:
    """Return what a method is called as in a class and in those that it inherits from, the nearest first."""
    return tuple(
        definition.__func__ if isinstance(definition, staticmethod) else definition
        for each in kind.__mro__
        if (definition := vars(each).get(name)) is not None
    )


def _as_bound(kind: type, name: str, function: FunctionType) -> Callable[..., object]:
    """Return a method as an instance has it: read for its signature, never run, so that abstract classes do too."""
    static = isinstance(inspect.getattr_static(kind, name), staticmethod)
    return function if static else MethodType(function, object())


def _is_stub(function: FunctionType, owner: type) -> bool:
    """Tell whether a method only says what others have to implement."""
    if getattr(function, "__isabstractmethod__", False) or _only_raises_not_implemented(function.__code__):
        return True
    return bool(getattr(owner, "_is_protocol", False)) and _is_empty(function)


def _is_empty(function: FunctionType) -> bool:
    code = function.__code__
    nothing = {None, function.__doc__}
    return not code.co_names and _does_nothing(code) and all(value in nothing for value in code.co_consts)


def _only_raises_not_implemented(code: CodeType) -> bool:
    return code.co_names == ("NotImplementedError",) and _does_nothing(code)


def _does_nothing(code: CodeType) -> bool:
    """Tell whether a function does no more than raise or return: no branch, no call but of what it raises."""
    import dis

    return all(instruction.opname in _IDLE for instruction in dis.get_instructions(code))


_IDLE_STEPS = (
    "ASYNC_GEN_WRAP CACHE CALL CALL_INTRINSIC_1 COPY COPY_FREE_VARS LOAD_COMMON_CONSTANT LOAD_CONST LOAD_GLOBAL NOP "
    "POP_TOP PRECALL PUSH_NULL RAISE_VARARGS RERAISE RESUME RETURN_CONST RETURN_GENERATOR RETURN_VALUE"
)
"""Bytecode of a function without branches that reads none of its arguments, in CPython 3.11 to 3.14."""
_IDLE = frozenset(_IDLE_STEPS.split())
