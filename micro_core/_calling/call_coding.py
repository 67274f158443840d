"""How the values of one endpoint are coded, worked out once and kept."""

from __future__ import annotations

from micro_core._wire.codec_set import CodecSet
from micro_core.client import Call
from micro_core.codec import Codec, Framing
from micro_core.errors import BadRequest, Executed
from micro_core.message import Headers
from micro_core.registry import Node
from micro_core.transport import Head

__all__ = ["FADING", "CallCoding", "FramedHead", "call_coding"]

FADING = 0.99
"""Decay of the longest time with each answer that took less: to a third after a hundred."""


class FramedHead(Head):
    """Constant headers, and the envelope that goes with them."""

    __slots__ = ("content_type", "framing")

    def __init__(self, headers: Headers, framing: Framing | None) -> None:
        super().__init__(headers)
        self.framing = framing
        self.content_type = headers[b"Content-Type"]


class CallCoding:
    """How the values of one endpoint are coded on their way out and back."""

    __slots__ = ("_codec", "_headers", "_legacy", "decode", "encode", "opening", "slowest")

    def __init__(
        self, headers: Headers, codec: Codec, legacy: Codec | None, response: Codec, response_type: object
    ) -> None:
        self._headers = headers
        self._codec = codec
        self._legacy = legacy
        self.encode = codec.encode
        self.decode = response.decoder(response_type)
        self.opening = b"{}" if codec.content_type == "application/json" else b""
        """The body of a stream's first message, which servers throw away (docs/wire.md §3.4)."""
        self.slowest = 0.0
        """The longest time of an answer, in seconds; it decays, so that old answers count for less."""

    def head(self, node: Node) -> FramedHead:
        """Return the constant headers of requests to ``node``: a legacy one gets an envelope (docs/wire.md §3.6)."""
        legacy = bool(node.metadata) and not node.metadata.get("protocol")
        codec = self._legacy if legacy and self._legacy is not None else self._codec
        content_type = codec.content_type.encode()
        return FramedHead({b"Content-Type": content_type, b"Accept": content_type} | self._headers, codec.framing)


def call_coding(call: Call, codecs: CodecSet, from_service: Headers) -> CallCoding:
    """Return the coding of a call. Raises `BadRequest` where no codec fits its content type or its types."""
    for what, name in (("service", call.service), ("endpoint", call.endpoint)):
        if not isinstance(name, str):
            raise BadRequest(f"{what} {name!r} is no text, but of type {type(name).__name__}", executed=Executed.NO)
    request_type = call.response_type if call.request_type is None else call.request_type
    wanted = call.options.content_type
    codec = codecs.find(wanted, request_type) if wanted else codecs.for_type(request_type)
    response = codecs.find(codec.content_type, call.response_type)
    legacy = None
    if codec.legacy_content_type and codecs.supports_content_type(codec.legacy_content_type):
        legacy = codecs.find(codec.legacy_content_type, request_type)
    endpoint = call.endpoint.encode()
    if endpoint.count(b".") != 1 or not endpoint.isascii():
        raise BadRequest(f"endpoint {call.endpoint!r} is not of the form 'Type.Method'", executed=Executed.NO)
    headers = from_service | {
        b"Micro-Service": call.service.encode(),
        b"Micro-Method": endpoint,
        b"Micro-Endpoint": endpoint,
    }
    return CallCoding(headers, codec, legacy, response, call.response_type)
