"""Reading JSON from strangers: depth is bounded before anything is built, and one error comes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from micro_core.builtin.json.faults import faults_of
from micro_core.builtin.json.payload_types import decode_model
from micro_core.errors import DecodeError

__all__ = ["MAX_DEPTH", "json_reader"]

Read = TypeVar("Read")

MAX_DEPTH = 128
"""The deepest nesting of arrays and objects that is read."""

_LONG = 4096
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_STEPS = bytes(set(range(256)) - set(b'[{]}"'))
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_TEXT = re.compile(rb'"[^"]*(?:"|\Z)')


def json_reader(decode: Callable[[bytes], Read], type: object = Any) -> Callable[[bytes], Read]:
    """Return ``decode``, which reads ``type``, with its input bounded, and with `DecodeError` as its only error.

    Of a document that does not fit, the error tells every fault: in its text, and as JSON in its details.
    """

    def read(body: bytes) -> Read:
        if len(body) > MAX_DEPTH and _too_deep(body):
            raise DecodeError(f"malformed JSON: nested deeper than {MAX_DEPTH}")
        try:
            return decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
            raise _explained(error, body, type) from error

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


def _explained(error: Exception, body: bytes, type: object) -> DecodeError:
    """Return what is wrong with the document, the fields first where it is some."""
    if isinstance(error, UnicodeDecodeError):
        return DecodeError(f"malformed JSON: no UTF-8 at byte {error.start}")
    if isinstance(error, RecursionError):
        return DecodeError("malformed JSON: nested too deep")
    if isinstance(error, msgspec.ValidationError) or hasattr(error, "errors"):
        faults = faults_of(body, type, error, decode_model)
        return DecodeError(str(faults), details=faults.details())
    if isinstance(error, msgspec.DecodeError):
        return DecodeError("malformed JSON: " + str(error).removeprefix("JSON is malformed: ").rstrip("."))
    return DecodeError(f"the value does not fit: {error}")
