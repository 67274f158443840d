"""Errors as Go Micro's JSON, and back (docs/wire.md §3.9, docs/protocol.md §3)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from micro_core.errors import (
    BadRequest,
    Conflict,
    Executed,
    Forbidden,
    InternalError,
    LimitExceeded,
    MicroError,
    NotFound,
    RemoteError,
    Timeout,
    Unauthorized,
    Unavailable,
)

__all__ = ["EOS", "error_from_wire", "error_to_wire", "status_of"]

log = logging.getLogger("micro.server")

EOS = b"EOS"
"""The ``Micro-Error`` that ends one direction of a stream (docs/wire.md §3.4)."""

_LONGEST = 8192
"""Bytes that an error may have, so that it fits a header."""

_SHORTENED = 1000
"""Characters that are left of a detail too long: each is six bytes of JSON at most."""

_CLASSES_KEPT = 4
"""Names of classes that are left then."""

_CLASSES: dict[int, type[MicroError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Timeout,
    409: Conflict,
    413: LimitExceeded,
    429: LimitExceeded,
    431: LimitExceeded,
    500: InternalError,
    503: Unavailable,
}
_STATUSES = {status.value: status.phrase for status in HTTPStatus}
_INT32 = range(-(2**31), 2**31)


class _WireError(msgspec.Struct):
    id: str = ""
    code: int = 0
    detail: str = ""
    status: str = ""
    executed: str = ""
    types: tuple[str, ...] = ()
    details: Any = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_WireError).decode


def error_to_wire(error: BaseException, service: str) -> str:
    """Return the JSON of an error, which is one line and fits a header.

    All four keys of Go's are there always, those of ours only where they say something: ``executed``, ``types``,
    ``details``. An error that names no maker was made by ``service``. What is no `MicroError` says nothing of itself:
    it becomes an internal error. Details that are no JSON, or too large, are left out, and the text says so.
    """
    if not isinstance(error, MicroError):
        error = InternalError("internal error")
    wire = _WireError(
        id=error.id or service,
        code=error.code,
        detail=str(error.detail),
        executed="" if error.executed is Executed.YES else error.executed.value,
        types=error.types or _application_classes(error),
    )
    details, why_not = _details(error, service)
    if details:
        text = _json(wire, details)
        if len(text) <= _LONGEST:
            return text.decode()
        why_not = "too large"
    if why_not:
        wire.detail += f" (its details are left out: {why_not})"
    text = _json(wire)
    if len(text) > _LONGEST:
        wire.id, wire.detail = wire.id[:100], wire.detail[:_SHORTENED] + "…"
        wire.types = tuple(name[:100] for name in wire.types[:_CLASSES_KEPT])
        text = _json(wire)
    return text.decode()


def error_from_wire(text: bytes | str, errors: Iterable[type[MicroError]] = ()) -> MicroError:
    """Return the error that a peer answered: of the class among ``errors`` that it names, else of its code's class.

    An application's class is made without its `__init__`, whose arguments nobody knows. Never raises: what is not Go
    Micro's JSON is a `RemoteError` with code 0 and the whole text as its detail.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    wire = _parsed(text)
    if wire is None:
        return RemoteError(text)
    executed = Executed(wire.executed) if wire.executed in _EXECUTED else Executed.YES
    detail = wire.detail or wire.status or text
    kind = _named(wire.types, errors) or _CLASSES.get(wire.code, RemoteError)
    error = kind.__new__(kind, detail)
    MicroError.__init__(error, detail, id=wire.id, details=wire.details, executed=executed)
    error.code, error.types = wire.code, wire.types
    return error


def status_of(error: MicroError) -> str:
    """Return what HTTP calls the error's code."""
    return _STATUSES.get(error.code, f"code {error.code}")


def _named(types: Sequence[str], errors: Iterable[type[MicroError]]) -> type[MicroError] | None:
    """Return the class among ``errors`` that a peer named, or the nearest that it inherits from."""
    known = {kind.__name__: kind for kind in errors} if types else {}
    return next((known[name] for name in types if name in known), None)


def _application_classes(error: MicroError) -> tuple[str, ...]:
    """Return the names of the classes that are an application's, the nearest first; none for an error of ours."""
    return tuple(
        kind.__name__
        for kind in type(error).__mro__
        if issubclass(kind, MicroError) and kind.__module__.partition(".")[0] != _OURS
    )


_OURS = __name__.partition(".")[0]


def _details(error: MicroError, service: str) -> tuple[bytes, str]:
    """Return the JSON of an error's details, or nothing and why."""
    if error.details is None:
        return b"", ""
    try:
        return _header_safe(_encode(error.details)), ""
    except Exception as unfit:  # whatever an application put there
        log.error("%s: the details of %r are no JSON: %s", service, error, unfit)
        return b"", "they are no JSON"


_EXECUTED = frozenset(Executed)


def _parsed(text: str) -> _WireError | None:
    if not text.startswith("{"):
        return None
    try:
        wire = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return wire if wire.code in _INT32 and (wire.code or wire.detail or wire.id) else None


def _json(wire: _WireError, details: bytes = b"") -> bytes:
    """Return the document in Go's order of keys, ours behind them."""
    text = b'{"id":%s,"code":%d,"detail":%s,"status":%s' % (
        _text(wire.id),
        wire.code,
        _text(wire.detail),
        _text(_STATUSES.get(wire.code, "")),
    )
    if wire.executed:
        text += b',"executed":"%s"' % wire.executed.encode()
    if wire.types:
        text += b',"types":[%s]' % b",".join(map(_text, wire.types))
    if details:
        text += b',"details":%s' % details
    return text + b"}"


def _text(text: str) -> bytes:
    """Return a JSON text in which no character is one that headers refuse, lone surrogates replaced."""
    return _header_safe(_encode(text.encode(errors="replace").decode()))


def _header_safe(document: bytes) -> bytes:
    return document.replace(b"\x7f", b"\\u007f")
