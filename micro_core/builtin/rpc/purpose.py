"""What a request asks for: an endpoint or a topic, named in its head or, by legacy peers, in its body."""

from __future__ import annotations

from collections.abc import Mapping

from micro_core._wire.codec_set import CodecSet, media_type
from micro_core.errors import BadRequest
from micro_core.transport import Request

__all__ = ["Purpose", "asked_in", "content_type_of", "purpose_of"]

ENDPOINT = (b"Micro-Endpoint", b"Micro-Method", b"X-Micro-Endpoint", b"X-Micro-Method")
TOPIC = (b"Micro-Topic", b"X-Micro-Topic")
SERVICE = (b"Micro-Service", b"X-Micro-Service")
"""The headers that say what a request is for; of each the first that is not empty counts."""

LEGACY = {
    b"application/json": b"application/json-rpc",
    b"application/protobuf": b"application/proto-rpc",
    b"application/octet-stream": b"application/proto-rpc",
}
"""The codecs of requests that carry none of our headers (docs/wire.md §3.6)."""


class Purpose:
    """What a request asks for, and the content type that its body is read by.

    Guards are asked about this, and this is what runs. An event is for its topic, whatever endpoint it names as well.
    """

    __slots__ = ("content_type", "endpoint", "service", "topic")

    def __init__(self, service: bytes, endpoint: bytes, topic: bytes, content_type: bytes) -> None:
        self.service = service
        """The service that a call is meant for; nothing where it does not say, and for events, which are for anybody.

        Go Micro's handlers publish with the metadata of the request that they answer, its service among it.
        """
        self.endpoint = endpoint
        self.topic = topic
        self.content_type = content_type


def purpose_of(request: Request, codecs: CodecSet) -> Purpose:
    """Return what a request asks for. Of a body that has to name the endpoint, nothing else is read.

    Such a body needs its content type: a web page can have a browser post any bytes without one.
    """
    headers = request.headers
    endpoint, topic = _first_of(headers, *ENDPOINT), _first_of(headers, *TOPIC)
    content_type, legacy = content_type_of(request)
    if legacy and not endpoint and not topic and asked_in(headers):
        endpoint = _endpoint_in(request.body, codecs, content_type)
    service = b"" if topic else _first_of(headers, *SERVICE)
    return Purpose(service, endpoint, topic, content_type)


def content_type_of(request: Request) -> tuple[bytes, bool]:
    """Return the content type that a request is read by, and whether that is a legacy peer's (docs/wire.md §3.6)."""
    headers = request.headers
    content_type = asked_in(headers) or b"application/protobuf"
    if _first_of(headers, b"Micro-Protocol", b"X-Micro-Protocol"):
        return content_type, False
    if _first_of(headers, *ENDPOINT, *SERVICE) and not _first_of(headers, b"Micro-Target", b"X-Micro-Target"):
        return content_type, False
    return LEGACY.get(content_type, content_type), True


def asked_in(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the content type that a request names, as codecs name theirs; empty where it names none."""
    return media_type(headers.get(b"Content-Type", b"").decode("latin-1")).encode("latin-1")


def _endpoint_in(body: bytes, codecs: CodecSet, content_type: bytes) -> bytes:
    """Return the endpoint that a legacy envelope names, or nothing for what is no envelope."""
    framing = codecs.framing(content_type.decode("latin-1"))
    if framing is None:
        return b""
    try:
        return framing.unpack_request(body)[0].encode()
    except BadRequest:
        return b""


def _first_of(headers: Mapping[bytes, bytes], *names: bytes) -> bytes:
    """Return the first value that is not empty, or nothing."""
    for name in names:
        value = headers.get(name)
        if value:
            return value
    return b""
