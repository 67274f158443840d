"""The codec's contract: values to bytes and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["Codec", "Framing"]


class Framing(ABC):
    """The envelope that legacy peers put round every body (docs/wire.md §3.5).

    Every method that reads raises `DecodeError`, and nothing else, for bytes that are no such envelope.
    """

    @abstractmethod
    def pack_request(self, endpoint: str, id: int, body: bytes) -> bytes:
        """Return a request's envelope with its encoded argument."""

    @abstractmethod
    def unpack_request(self, message: bytes) -> tuple[str, int, bytes]:
        """Return endpoint, id and encoded argument of a request."""

    @abstractmethod
    def pack_reply(self, endpoint: str, id: int, body: bytes, error: str) -> bytes:
        """Return a reply's envelope: with its encoded value, or with ``error`` where that is not empty."""

    @abstractmethod
    def unpack_reply(self, message: bytes) -> tuple[int, bytes, str]:
        """Return id, encoded value and error text (empty: none) of a reply."""


class Codec(ABC):
    """Values to bytes and back, for one content type. Stateless and safe to share.

    Several codecs may share a content type: of those installed, the first that `supports` a type codes it.
    """

    name: ClassVar[str]
    content_type: ClassVar[str]
    """In lower case and without parameters; what a peer names is compared in that form."""

    framing: Framing | None = None
    """The envelope round every body; None where the body is the value alone."""

    legacy_content_type: ClassVar[str] = ""
    """What ``content_type`` becomes towards a node that names no protocol (docs/wire.md §3.6); empty: no such thing."""

    @abstractmethod
    def supports(self, type: object) -> bool:
        """Tell whether values annotated with ``type`` (`Any` and None included) can be coded."""

    def native(self, type: object) -> bool:
        """Tell whether values of ``type`` travel by this codec when nobody asks for another."""
        return False

    @abstractmethod
    def encode(self, value: object) -> bytes:
        """Return the bytes of a value. Raises `EncodeError`."""

    @abstractmethod
    def decoder(self, type: object) -> Callable[[bytes], Any]:
        """Return the function that reads values of ``type``; kept by the caller, so it may cost something to make.

        It raises `DecodeError`, and nothing else, for bytes that are malformed or do not fit; its text names fields.
        It bounds depth and size before it builds anything. Empty bytes are a zero value where the type has one
        (docs/wire.md §3.3).
        """
