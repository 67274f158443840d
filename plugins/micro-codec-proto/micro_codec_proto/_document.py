"""JSON documents from protobuf messages and back; imported for the first message (docs/wire.md §3.5)."""

from __future__ import annotations

import json
import re
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from micro_core import DecodeError, EncodeError

__all__ = ["parse", "write"]

_MAX_DEPTH = 100
"""How deep messages may nest: as deep as in protobuf's own form."""

_WELL_KNOWN = "google.protobuf."
"""Messages with forms of their own in JSON, such as timestamps; they stay as protobuf writes them."""

_LONG = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)


def write(value: Any) -> bytes:
    """Return a message as JSON. Raises `EncodeError`."""
    if not isinstance(value, Message):
        raise EncodeError(f"{type(value).__qualname__} is no protobuf message")
    try:
        document = json_format.MessageToDict(value, preserving_proto_field_name=True, use_integers_for_enums=True)
        document = _with_numbers(value.DESCRIPTOR, document)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError as error:
        raise EncodeError(f"{type(value).__qualname__} is nested too deep") from error
    except (json_format.Error, ValueError, TypeError) as error:
        raise EncodeError(f"{type(value).__qualname__} cannot be written as JSON: {error}") from error


def parse(body: bytes, message: Message) -> Message:
    """Fill ``message`` from JSON, and return it. Raises `DecodeError`."""
    if not body:
        return message
    if not message.DESCRIPTOR.full_name.startswith(_WELL_KNOWN) and not body.lstrip().startswith(b"{"):
        raise DecodeError("malformed JSON: expected an object")
    try:
        return json_format.Parse(body.decode(), message, ignore_unknown_fields=True, max_recursion_depth=_MAX_DEPTH)
    except UnicodeDecodeError as error:
        raise DecodeError(f"malformed JSON: no UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise DecodeError("malformed JSON: nested too deep") from error
    except Exception as error:  # the parser lets through what its own conversions raise
        raise _misfit(type(message).__name__, str(error)) from error


def _misfit(name: str, text: str) -> DecodeError:
    """Return the error of a document of which the parser told one fault, the way to it a field at a time."""
    steps = []
    while match := _IN_FIELD.match(text):
        steps.append(match[1])
        text = text[match.end() :]
    path, reason = ".".join(steps), text.rstrip(".")
    detail = f"field '{path}' does not fit {name}: {reason}" if path else f"the JSON does not fit {name}: {reason}"
    return DecodeError(detail, details={"faults": [{"path": path, "reason": reason}], "complete": False})


_IN_FIELD = re.compile(r"Failed to parse (\S+) field: ")


def _with_numbers(descriptor: Any, document: Any) -> Any:
    """Turn 64-bit integers, which protobuf writes as texts, into numbers, however deep they lie."""
    if descriptor.full_name.startswith(_WELL_KNOWN):
        return document
    for key, value in document.items():
        field = descriptor.fields_by_name.get(key)
        if field is not None:
            document[key] = _field_with_numbers(field, value)
    return document


def _field_with_numbers(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        values = field.message_type.fields_by_name["value"]
        return {key: _field_with_numbers(values, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_one_with_numbers(field, item) for item in value]
    return _one_with_numbers(field, value)


def _one_with_numbers(field: FieldDescriptor, value: Any) -> Any:
    if field.cpp_type in _LONG:
        return int(value)
    return _with_numbers(field.message_type, value) if field.message_type is not None else value
