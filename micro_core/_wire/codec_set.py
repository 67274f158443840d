"""Which codec codes what: by the type of a value, or by the content type that a peer asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isclass
from typing import Any

from micro_core.codec import Codec, Framing
from micro_core.errors import BadRequest, EncodeError, Executed, MicroError

__all__ = ["CodecSet", "media_type"]

_SHOWN = 100
"""How much of a peer's content type an error repeats."""


def media_type(content_type: str) -> str:
    """Return a content type as codecs name theirs: in lower case, without parameters (RFC 9110 §8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


class CodecSet:
    """The codecs of one service or client, in the order in which they were selected."""

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self._codecs = tuple(codecs)
        self._content_types = frozenset(codec.content_type for codec in codecs)
        self._by_type: dict[object, Codec] = {}
        self._by_both: dict[tuple[str, object], Codec] = {}

    def __repr__(self) -> str:
        return f"CodecSet({', '.join(codec.name for codec in self._codecs)})"

    def supports_content_type(self, content_type: str) -> bool:
        """Tell whether any codec has that content type."""
        return content_type in self._content_types

    def framing(self, content_type: str) -> Framing | None:
        """Return the envelope of a legacy content type; None for content types without one, and for unknown ones."""
        plain = media_type(content_type)
        framings = (codec.framing for codec in self._codecs if codec.content_type == plain)
        return next((framing for framing in framings if framing is not None), None)

    def for_type(self, type: object) -> Codec:
        """Return the codec by which values of ``type`` travel when nobody asks for another.

        That is the first to which the type is native, else the first that supports it; never a legacy one.
        Raises `EncodeError` where no codec takes the type: its text says why.
        """
        try:
            return self._by_type[type]
        except KeyError:
            codec = self._by_type[type] = self._choose(type)
            return codec
        except TypeError:  # an unhashable annotation
            return self._choose(type)

    def find(self, content_type: str, type: object) -> Codec:
        """Return the codec that codes ``type`` in ``content_type``; legacy content types are found too.

        Parameters (``; charset=utf-8``) and capitals make no difference, and are not kept: peers invent any number.
        Raises `BadRequest` where the content type is unknown, or not one for values of that type.
        """
        try:
            return self._by_both[content_type, type]
        except KeyError:
            plain = media_type(content_type)
            if plain != content_type:
                return self.find(plain, type)
            codec = self._by_both[content_type, type] = self._search(content_type, type)
            return codec
        except TypeError:
            return self._search(media_type(content_type), type)

    def _choose(self, type: object) -> Codec:
        candidates = [codec for codec in self._codecs if codec.framing is None and codec.supports(type)]
        for codec in candidates:
            if codec.native(type):
                return codec
        if candidates:
            return candidates[0]
        raise EncodeError(
            f"no codec for {_name(type)}; {'; '.join(self._reasons(type))}{_hint(type)}", executed=Executed.NO
        )

    def _search(self, content_type: str, type: object) -> Codec:
        for codec in self._codecs:
            if codec.content_type == content_type and codec.supports(type):
                return codec
        enveloped = self._in_envelope(content_type, type)
        if enveloped is not None:
            return enveloped
        fitting = [codec.content_type for codec in self._codecs if codec.supports(type)]
        what = f"{_name(type)} travels as" if content_type in self._content_types else "this service takes"
        raise BadRequest(
            f"unsupported content type {content_type[:_SHOWN]!r}; "
            f"{what}: {', '.join(dict.fromkeys(fitting)) or 'none of them'}{'' if fitting else _hint(type)}",
            executed=Executed.NO,
        )

    def _in_envelope(self, content_type: str, type: object) -> Codec | None:
        """Return how ``type`` travels in a legacy envelope whose own codec does not take it, another one's values."""
        framing = self.framing(content_type)
        plain = {codec.content_type for codec in self._codecs if codec.legacy_content_type == content_type}
        if framing is not None:
            for codec in self._codecs:
                if codec.content_type in plain and codec.framing is None and codec.supports(type):
                    return _Enveloped(codec, framing)
        return None

    def _reasons(self, type: object) -> list[str]:
        """Ask every codec why it refuses; each says so when it is asked for a decoder."""
        reasons = []
        for codec in self._codecs:
            if codec.framing is None:
                try:
                    codec.decoder(type)
                except MicroError as error:
                    reasons.append(f"{codec.name}: {error.detail}")
        return reasons or ["no codec is selected"]


class _Enveloped(Codec):
    """A codec's values in a legacy envelope."""

    name = "enveloped"
    content_type = ""

    def __init__(self, codec: Codec, framing: Framing) -> None:
        self._codec = codec
        self.framing = framing

    def supports(self, type: object) -> bool:
        return self._codec.supports(type)

    def encode(self, value: object) -> bytes:
        return self._codec.encode(value)

    def decoder(self, type: object) -> Callable[[bytes], Any]:
        return self._codec.decoder(type)


def _name(type: object) -> str:
    return type.__qualname__ if isclass(type) else str(type)


def _hint(type: object) -> str:
    if hasattr(type, "DESCRIPTOR") and hasattr(type, "SerializeToString"):
        return " (it is a protobuf message: pip install micro-codec-proto)"
    return ""
