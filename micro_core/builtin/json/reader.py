"""Reading JSON from strangers: depth is bounded before anything is built, and one error comes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import msgspec

from micro_core.errors import DecodeError

__all__ = ["MAX_DEPTH", "json_reader"]

MAX_DEPTH = 128
"""How deep arrays and objects may nest."""

_LONG = 4096
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_STEPS = bytes(set(range(256)) - set(b'[{]}"'))
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_TEXT = re.compile(rb'"[^"]*(?:"|\Z)')
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)


def json_reader(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Return ``decode`` with its input bounded, and with `DecodeError` as its only error."""

    def read(body: bytes) -> Any:
        if len(body) > MAX_DEPTH and _too_deep(body):
            raise DecodeError(f"malformed JSON: nested deeper than {MAX_DEPTH}")
        try:
            return decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            raise DecodeError(_explain(error)) from error

    return read


def _too_deep(body: bytes) -> bool:
    """Count how deep brackets nest, at the speed of C: escapes and texts go first, then all that is no bracket."""
    if not _has_many_brackets(body):
        return False
    if b"\\" in body:
        body = _ESCAPE.sub(b"", body)
    steps = _TEXT.sub(b"", body.translate(None, _NO_STEPS)).translate(_STEPS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH


def _has_many_brackets(body: bytes) -> bool:
    """Tell whether arrays and objects could nest too deep; in long texts `find` is faster than `count` by far."""
    if len(body) < _LONG:
        return body.count(b"[") + body.count(b"{") > MAX_DEPTH
    left = MAX_DEPTH
    for bracket in (b"[", b"{"):
        at = body.find(bracket)
        while at >= 0:
            left -= 1
            if left < 0:
                return True
            at = body.find(bracket, at + 1)
    return False


def _explain(error: Exception) -> str:
    """Return what is wrong with the document, the field first where it is one."""
    if isinstance(error, UnicodeDecodeError):
        return f"malformed JSON: no UTF-8 at byte {error.start}"
    if isinstance(error, RecursionError):
        return "malformed JSON: nested too deep"
    if isinstance(error, msgspec.ValidationError):
        match = _PLACE.fullmatch(str(error))
        assert match  # the pattern fits any text
        return _misfit(match["what"], match["path"] or "", error.__cause__)
    if isinstance(error, msgspec.DecodeError):
        return "malformed JSON: " + str(error).removeprefix("JSON is malformed: ").rstrip(".")
    if hasattr(error, "errors"):
        return _misfit("", "", error)
    return f"the value does not fit: {error}"


def _misfit(what: str, path: str, cause: BaseException | None) -> str:
    if missing := _MISSING.fullmatch(what):
        return f"field '{_joined(path, missing['field'])}' is missing"
    if cause is not None and hasattr(cause, "errors"):  # pydantic's
        first = cause.errors(include_url=False, include_input=False)[0]
        path = _joined(path, *first["loc"])
        what = first["msg"]
    else:
        what = what.replace("`", "")
        path = _joined(path)
    what = what[:1].lower() + what[1:]
    return f"field '{path}': {what}" if path else what


def _joined(path: str, *more: str | int) -> str:
    for step in more:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.removeprefix(".")
