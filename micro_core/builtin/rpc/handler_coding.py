"""How the values of one endpoint are coded on the server's side, worked out once for each content type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from micro_core._wire.codec_set import CodecSet
from micro_core.codec import Codec, Framing
from micro_core.middleware import HandlerMiddleware, fold
from micro_core.server import Handler, HandlerKind
from micro_core.transport import Head

__all__ = ["HandlerCoding", "handler_coding"]


class HandlerCoding:
    """A handler with middleware round it, and how its values are coded."""

    __slots__ = ("decode", "encode", "framing", "handler", "head", "invoke", "middleware")

    def __init__(
        self,
        handler: Handler,
        request: Codec,
        response: Codec,
        content_type: bytes,
        middleware: Sequence[HandlerMiddleware],
    ) -> None:
        self.handler = handler
        self.decode: Callable[[bytes], object] = request.decoder(handler.request_type)
        self.encode: Callable[[object], bytes] = response.encode
        self.framing: Framing | None = request.framing
        self.head = Head({b"Content-Type": content_type})
        self.middleware = middleware
        self.invoke: Callable[..., Any] = (
            fold(handler.function, middleware) if handler.kind is HandlerKind.UNARY else handler.function
        )


def handler_coding(
    handler: Handler, content_type: str, asked: bytes, codecs: CodecSet, middleware: Sequence[HandlerMiddleware]
) -> HandlerCoding:
    """Return the coding of a handler for one content type; ``asked`` is the one that the peer named and gets back.

    Raises `BadRequest` where the content type is not supported.
    """
    request = codecs.find(content_type, handler.request_type)
    response = codecs.find(content_type, handler.response_type)
    return HandlerCoding(handler, request, response, asked, middleware)
