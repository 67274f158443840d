"""The description of a node in a TXT record: Go Micro's JSON in zlib (docs/wire.md §1.3), with bounds on everything."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from micro_core import DecodeError, Endpoint, Value

__all__ = ["Description", "Quota", "deflate", "document", "from_strings", "inflate", "join_hex", "split_hex", "strings"]

MAX_DOCUMENT = 512 * 1024
MAX_ENDPOINTS = 1_024
MAX_VALUES = 8_192
MAX_DEPTH = 8  # Go describes three levels
MAX_METADATA = 1_024


class Quota:
    """What may be inflated for one packet, which can hold any number of descriptions."""

    def __init__(self, most: int = MAX_DOCUMENT) -> None:
        self._most = self._left = most

    @property
    def is_spent(self) -> bool:
        """Whether the rest of the packet is better left unread."""
        return self._left <= 0

    @property
    def spent(self) -> int:
        """Bytes of descriptions that were read."""
        return self._most - self._left

    def spend(self, size: int = MAX_DOCUMENT // 8) -> None:
        """Count a description of ``size`` bytes; without a size, one that was malformed."""
        self._left -= size


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a TXT record says of a node."""

    service: str
    version: str
    endpoints: tuple[Endpoint, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The node's."""
    service_metadata: Mapping[str, str] = field(default_factory=dict)
    """The service's, which Go neither sends nor reads (docs/protocol.md §6)."""
    address: str = ""
    """The node's, where it is none that an A record can hold: a host name, say. Go neither sends nor reads it."""
    size: int = field(default=0, compare=False)
    """Bytes of the document that it was read from."""


# ------------------------------------------------------------------------------------------- strings of a record


def strings(pieces: Sequence[bytes]) -> bytes:
    """Return the rdata of a TXT record: each piece, at most 255 bytes, after its length (RFC 1035 §3.3.14)."""
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)


def from_strings(rdata: bytes) -> list[bytes]:
    """Return the character-strings of a TXT record. Raises `DecodeError` where the last one is cut short."""
    pieces, at = [], 0
    while at < len(rdata):
        end = at + 1 + rdata[at]
        if end > len(rdata):
            raise DecodeError("TXT record ends in the middle of a string")
        pieces.append(rdata[at + 1 : end])
        at = end
    return pieces


def split_hex(description: Description) -> bytes:
    """Return the rdata that Go Micro writes: JSON, zlib, hex, strings of 255."""
    digits = deflate(description).hex().encode()
    return strings([digits[at : at + 255] for at in range(0, len(digits), 255)])


def join_hex(rdata: bytes) -> Description:
    """Read what `split_hex` writes. Raises `DecodeError`."""
    try:
        compressed = bytes.fromhex(b"".join(from_strings(rdata)).decode("ascii"))
    except ValueError as error:
        raise DecodeError("TXT record is not hexadecimal") from error
    return inflate(compressed)


# --------------------------------------------------------------------------------------------------- the document


def deflate(description: Description) -> bytes:
    """Return the JSON document, compressed."""
    return zlib.compress(document(description))


def inflate(compressed: bytes) -> Description:
    """Read what `deflate` writes, inflating at most 512 KiB. Raises `DecodeError`."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(compressed, MAX_DOCUMENT)
    except zlib.error as error:
        raise DecodeError("TXT record is not zlib") from error
    if not inflater.eof:
        raise DecodeError(f"TXT record is cut short or larger than {MAX_DOCUMENT} bytes")
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError("TXT record is not JSON") from error
    return replace(_Parser().description(parsed), size=len(text))


def document(description: Description) -> bytes:
    """Return the JSON document in the order of keys that v1.18 writes."""
    content = {
        "Service": description.service,
        "Version": description.version,
        "Endpoints": [_endpoint(endpoint) for endpoint in description.endpoints],
        "Metadata": _sorted(description.metadata),
    }
    if description.service_metadata:
        content["ServiceMetadata"] = _sorted(description.service_metadata)
    if description.address:
        content["Address"] = description.address
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "request": endpoint.request and _value(endpoint.request),
        "response": endpoint.response and _value(endpoint.response),
        "metadata": _sorted(endpoint.metadata),
    }


def _value(value: Value) -> dict[str, Any]:
    return {"name": value.name, "type": value.type, "values": [_value(child) for child in value.values] or None}


def _sorted(metadata: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(metadata.items()))


class _Parser:
    """From parsed JSON to a description; keys in any case, ``null`` for whatever may be empty."""

    def __init__(self) -> None:
        self._values = 0

    def description(self, parsed: Any) -> Description:
        content = self._object(parsed, "the document")
        return Description(
            service=self._text(content.get("service")),
            version=self._text(content.get("version")),
            endpoints=tuple(self._endpoint(item) for item in self._array(content.get("endpoints"), MAX_ENDPOINTS)),
            metadata=self._metadata(content.get("metadata")),
            service_metadata=self._metadata(content.get("servicemetadata")),
            address=self._text(content.get("address")),
        )

    def _endpoint(self, parsed: Any) -> Endpoint:
        content = self._object(parsed, "an endpoint")
        return Endpoint(
            name=self._text(content.get("name")),
            request=self._value(content.get("request"), 0),
            response=self._value(content.get("response"), 0),
            metadata=self._metadata(content.get("metadata")),
        )

    def _value(self, parsed: Any, depth: int) -> Value | None:
        if parsed is None:
            return None
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise DecodeError(f"TXT record describes more than {MAX_VALUES} values, or deeper than {MAX_DEPTH}")
        content = self._object(parsed, "a value")
        children = (self._value(item, depth + 1) for item in self._array(content.get("values"), MAX_VALUES))
        return Value(
            name=self._text(content.get("name")),
            type=self._text(content.get("type")),
            values=tuple(child for child in children if child is not None),
        )

    def _metadata(self, parsed: Any) -> dict[str, str]:
        if parsed is None:
            return {}
        if not isinstance(parsed, dict) or len(parsed) > MAX_METADATA:
            raise DecodeError(f"TXT record: metadata has to be an object of at most {MAX_METADATA} texts")
        return {self._text(key): self._text(value) for key, value in parsed.items()}

    @staticmethod
    def _object(parsed: Any, what: str) -> dict[str, Any]:
        if not isinstance(parsed, dict):
            raise DecodeError(f"TXT record: {what} has to be an object")
        return {key.lower(): value for key, value in parsed.items()}

    @staticmethod
    def _array(parsed: Any, limit: int) -> list[Any]:
        if parsed is None:
            return []
        if not isinstance(parsed, list) or len(parsed) > limit:
            raise DecodeError(f"TXT record: expected an array of at most {limit}")
        return parsed

    @staticmethod
    def _text(parsed: Any) -> str:
        if parsed is None:
            return ""
        if not isinstance(parsed, str):
            raise DecodeError("TXT record: expected a text")
        try:
            parsed.encode()
        except UnicodeEncodeError as error:
            raise DecodeError("TXT record holds half a character") from error
        return parsed
