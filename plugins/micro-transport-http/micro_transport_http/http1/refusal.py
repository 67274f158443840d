"""A malformed or oversized message: the one exception that the parser raises."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["Refusal"]


class Refusal(Exception):
    """A message that is refused; the connection ends with it (docs/protocol.md §3)."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    def encode(self) -> bytes:
        """Return the response that tells the peer."""
        body = f"{self.sentence}\n".encode("utf-8", "replace")
        reason = HTTPStatus(self.status).phrase.encode()
        headers = b"Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n" % len(body)
        return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (self.status, reason, headers, body)
