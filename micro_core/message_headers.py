"""What the headers of a message may be, so that each broker can send them."""

from __future__ import annotations

import re
from functools import lru_cache

from micro_core.message import Headers

__all__ = ["wrong_header"]

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z:]+")


def wrong_header(headers: Headers) -> bytes | None:
    """Return the name of a header that cannot be sent: its name is no token, or its value has control characters."""
    if not _CONTROL.search(b"".join(headers.values())) and all(map(_is_name, headers)):
        return None
    return next(name for name in headers if not _is_name(name) or _CONTROL.search(headers[name]))


@lru_cache(maxsize=4096)
def _is_name(name: bytes) -> bool:
    """Return whether a header's name is a token (RFC 9110 §5.6.2), or Go's ``:topic``."""
    return _NAME.fullmatch(name) is not None
