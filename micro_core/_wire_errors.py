"""Errors as Go Micro's JSON, and back (docs/wire.md §3.9, docs/protocol.md §3)."""

from __future__ import annotations

from http import HTTPStatus

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

__all__ = ["EOS", "error_from_wire", "error_to_wire"]

EOS = b"EOS"
"""The ``Micro-Error`` that ends one direction of a stream (docs/wire.md §3.4)."""

_LONGEST = 8192
"""Bytes that an error may have, so that it fits a header."""

_SHORTENED = 1000
"""Characters that are left of a detail too long: each is six bytes of JSON at most."""

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


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_WireError).decode


def error_to_wire(error: BaseException, service: str) -> str:
    """Return the JSON of an error, which is one line and fits a header.

    All four keys of Go's are there always; ``executed`` only where it is not yes. An error that names no maker was made
    by ``service``. What is no `MicroError` says nothing of itself: it becomes an internal error.
    """
    if not isinstance(error, MicroError):
        error = InternalError("internal error")
    detail, id = str(error.detail), error.id or service
    text = _json(id, error.code, detail, error.executed)
    if len(text) > _LONGEST:
        text = _json(id[:100], error.code, detail[:_SHORTENED] + "…", error.executed)
    return text.decode()


def error_from_wire(text: bytes | str) -> MicroError:
    """Return the error that a peer answered, of the class that its code has; never raises.

    What is not Go Micro's JSON is a `RemoteError` with code 0 and the whole text as its detail.
    """
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    wire = _parsed(text)
    if wire is None:
        return RemoteError(text)
    executed = Executed(wire.executed) if wire.executed in _EXECUTED else Executed.YES
    detail = wire.detail or wire.status or text
    return _CLASSES.get(wire.code, RemoteError)(detail, code=wire.code, id=wire.id, executed=executed)


_EXECUTED = frozenset(Executed)


def _parsed(text: str) -> _WireError | None:
    if not text.startswith("{"):
        return None
    try:
        wire = _decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return wire if wire.code in _INT32 and (wire.code or wire.detail or wire.id) else None


def _json(id: str, code: int, detail: str, executed: Executed) -> bytes:
    text = b'{"id":%s,"code":%d,"detail":%s,"status":%s' % (
        _text(id),
        code,
        _text(detail),
        _text(_STATUSES.get(code, "")),
    )
    return text + (b"}" if executed is Executed.YES else b',"executed":"%s"}' % executed.value.encode())


def _text(text: str) -> bytes:
    """Return a JSON text in which no character is one that headers refuse, lone surrogates replaced."""
    return _encode(text.encode(errors="replace").decode()).replace(b"\x7f", b"\\u007f")
