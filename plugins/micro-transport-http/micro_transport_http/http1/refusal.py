"""A malformed or oversized message: the one exception that the parser raises."""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from micro_core import Headers

__all__ = ["STATUS", "Refusal", "is_call", "sounds_like_call"]

STATUS = b"Micro-Status"
"""The status that a refusal would have, told to peers of ours beside the ``Micro-Error`` for Go Micro's."""

_GO = b"Go-http-client/"
"""How a Go Micro program introduces itself, in the second line of its heads (docs/wire.md §2.1)."""

_CALL = re.compile(rb"POST .*\r\n(?:(?:X-)?Micro-|User-Agent: Go-http-client/)", re.S)


class Refusal(Exception):
    """A message that is refused; the connection ends with it (docs/protocol.md §3)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    def encode(self, *, bodiless: bool = False) -> bytes:
        """Return the response that tells the peer, its body left out for ``HEAD``."""
        body = f"{self.sentence}\n".encode("utf-8", "replace")
        headers = b"Content-Type: text/plain; charset=utf-8\r\n"
        if self.status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers += b"Allow: POST\r\n"
        return self._response(b"%d %b" % (self.status, self._reason), headers, body, b"" if bodiless else body)

    def encode_for_call(self) -> bytes:
        """Return the response that tells who called: Go Micro v5 takes any status but 200 for success."""
        error = {
            "id": "micro.transport.http",
            "code": self.status,
            "detail": self.sentence,
            "status": self._reason.decode(),
            "executed": "no",
        }
        text = json.dumps(error, separators=(",", ":")).encode()
        headers = b"Content-Type: text/plain\r\nMicro-Error: %b\r\nMicro-Status: %d\r\n" % (
            text.replace(b"\x7f", b"\\u007f"),
            self.status,
        )
        body = self.sentence.encode("utf-8", "replace")
        return self._response(b"200 OK", headers, body, body)

    @property
    def _reason(self) -> bytes:
        return HTTPStatus(self.status).phrase.encode()

    @staticmethod
    def _response(status: bytes, headers: bytes, body: bytes, sent: bytes) -> bytes:
        return b"HTTP/1.1 %b\r\n%bConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (
            status,
            headers,
            len(body),
            sent,
        )


def is_call(method: bytes | None, headers: Headers) -> bool:
    """Return whether a head, or as much of it as was read, is a Go Micro call's."""
    if method != b"POST":
        return False
    if headers.get(b"User-Agent", b"").startswith(_GO):
        return True
    return any(name.startswith((b"Micro-", b"X-Micro-")) for name in headers)


def sounds_like_call(data: bytes) -> bool:
    """Return whether bytes begin as a Go Micro call's head does, as it is written."""
    return _CALL.match(data[:65536].partition(b"\r\n\r\n")[0]) is not None
