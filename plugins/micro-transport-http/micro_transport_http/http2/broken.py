"""What a peer did wrong: with one stream, or with the connection (RFC 9113 §5.4)."""

from __future__ import annotations

from .frames import Code

__all__ = ["ConnectionBroken", "StreamBroken"]


class ConnectionBroken(Exception):
    """The connection ends with it."""

    def __init__(self, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


class StreamBroken(Exception):
    """The stream ends with it, and its neighbours go on."""

    def __init__(self, stream: int, code: Code, sentence: str) -> None:
        super().__init__(sentence)
        self.stream = stream
        self.code = code
        self.sentence = sentence
