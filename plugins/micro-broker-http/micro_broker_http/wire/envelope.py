"""Go Micro's broker envelope: one message as a JSON object, in both of its forms (docs/wire.md §4.2)."""

from __future__ import annotations

import base64
import binascii
from enum import Enum
from typing import TypeAlias

import msgspec

from micro_core import DecodeError, Message
from micro_core.message import Headers, canonical

__all__ = ["Form", "decode_envelope", "encode_envelope"]

TOPIC = b"Micro-Topic"
OLD_TOPIC = b":topic"

_Fields: TypeAlias = dict[str, msgspec.Raw]
_fields = msgspec.json.Decoder(_Fields)
_header = msgspec.json.Decoder(dict[str, str] | None)
_body = msgspec.json.Decoder(str | None)
_encoder = msgspec.json.Encoder()


class Form(Enum):
    """The two forms of Go Micro's http broker, each with the service name that its subscribers register under."""

    V1 = "go.micro.http.broker"
    """v1.18: posts to ``/_sub``, the topic is the header ``:topic``."""
    V2 = "micro.http.broker"
    """From v2.5 on: posts to ``/``, the topic is the header ``Micro-Topic``."""

    @property
    def path(self) -> str:
        """The path that a message is posted to."""
        return "/_sub" if self is Form.V1 else "/"


def encode_envelope(topic: str, message: Message, form: Form, *, both_keys: bool = True) -> bytes:
    """Return a message as Go Micro posts it, byte for byte as v1.18 does.

    ``both_keys`` writes the old topic key in the newer form too, which Go ignores; without it the newer form is Go's to
    the byte. The newer form overwrites ``Micro-Topic``, the older one sets it only where it is missing.
    """
    headers = dict(message.headers)
    if form is Form.V2:
        headers[TOPIC] = topic.encode()
    headers.setdefault(TOPIC, topic.encode())
    if both_keys or form is Form.V1:
        headers[OLD_TOPIC] = topic.encode()
    shown = {name: headers[name].decode("utf-8", "replace") for name in sorted(headers)}
    return _encoder.encode(
        {
            "Header": {name.decode("utf-8", "replace"): value for name, value in shown.items()},
            "Body": base64.b64encode(message.body).decode(),
        }
    )


def decode_envelope(data: bytes) -> tuple[str, Message]:
    """Return topic and message of a posted envelope; the message has ``Micro-Topic`` and no ``:topic``.

    Header names come out canonical. Raises `DecodeError` for anything that Go Micro answers 500 to.
    """
    try:
        fields = {name.lower(): value for name, value in _fields.decode(data).items()}
        texts = _header.decode(fields.get("header", b"null")) or {}
        body = base64.b64decode(_body.decode(fields.get("body", b"null")) or "", validate=True)
        headers: Headers = {canonical(name).encode(): value.encode() for name, value in texts.items()}
    except (msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error, ValueError) as error:
        raise DecodeError(f"the body is no broker message: {error}") from error
    topic = texts.get(":topic") or texts.get("Micro-Topic") or ""
    if not topic:
        raise DecodeError("the broker message has no topic: neither ':topic' nor 'Micro-Topic' is in its header")
    headers.pop(OLD_TOPIC, None)
    headers.setdefault(TOPIC, topic.encode())
    return topic, Message(headers, body)
