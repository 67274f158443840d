"""A cache of parsed heads: most messages of a connection differ in three numbers, and need no second parsing.

Those are `Micro-Id`, `Timeout` and `Content-Length`, which `writer` writes in places of their own. A head is familiar
when httptools has read one with the same bytes in all other places on the same connection, so what is taken for read
here is what httptools would read; a differential property test holds it to that
(``test_a_familiar_head_is_read_as_it_was_the_first_time``).
"""

from __future__ import annotations

import re
from functools import lru_cache

from micro_core import Headers

__all__ = ["FamiliarHeads"]

_KEPT = 8
"""How many heads of one connection are kept; who sends others sends them to httptools."""

_LONGEST = 1024
"""Longer heads are left to httptools: making a pattern of one costs more, and a stranger could ask for it at will."""
_SLACK = 128
"""More bytes than the three numbers and their names have."""

_ANY = re.compile(
    rb"((?:HTTP/1\.1 [^\r\n]+|[^\r\n]+ HTTP/1\.1)\r\n(?:Host: [^\r\n]*\r\n)?)"
    rb"Micro-Id: ([0-9]{1,19})((?:\r\n(?!Timeout: |Content-Length: )[^\r\n]+)*)"
    rb"(?:\r\nTimeout: ([0-9]{1,19}))?\r\nContent-Length: [0-9]{1,9}\r\n\r\n"
)
_SPEAKS_OF_FRAMING = re.compile(
    rb"^(?:micro-id|timeout|content-length|transfer-encoding|connection|upgrade|expect|trailer)\s*:", re.I | re.M
)


@lru_cache(maxsize=256)
def _pattern(start: bytes, lines: bytes) -> re.Pattern[bytes]:
    return re.compile(
        rb"%bMicro-Id: ([0-9]{1,19})%b(?:\r\nTimeout: ([0-9]{1,19}))?\r\nContent-Length: ([0-9]{1,9})\r\n\r\n"
        % (re.escape(start), re.escape(lines))
    )


class FamiliarHeads:
    """The heads of one connection's messages. ``header_limit`` is in bytes."""

    def __init__(self, header_limit: int) -> None:
        self._limit = header_limit
        self._known: list[tuple[re.Pattern[bytes], Headers]] = []
        """The one that was read last comes first."""

    def read(self, data: bytes, at: int) -> tuple[Headers, int, int] | None:
        """Return the headers of the message that begins at ``at``, where its body begins, and the body's length.

        None where the head is not familiar.
        """
        for place, (pattern, known) in enumerate(self._known):
            found = pattern.match(data, at)
            if found is not None:
                if place:
                    self._known.insert(0, self._known.pop(place))
                id, timeout, length = found.groups()
                headers = known.copy()
                headers[b"Micro-Id"] = id
                if timeout is not None:
                    headers[b"Timeout"] = timeout
                return headers, found.end(), int(length)
        return None

    def learn(self, head: bytes, headers: Headers) -> None:
        """Note what httptools has read of a message that begins with ``head``, where that is one of the usual form."""
        found = _ANY.match(head, 0, _LONGEST) if len(self._known) < _KEPT else None
        if found is None or found.end() + _SLACK > self._limit:
            return
        start, id, lines, timeout = found.groups()
        if headers.get(b"Micro-Id") != id or headers.get(b"Timeout") != timeout or _SPEAKS_OF_FRAMING.search(lines):
            return
        known = headers.copy()
        del known[b"Micro-Id"]
        known.pop(b"Timeout", None)
        self._known.insert(0, (_pattern(start, lines), known))
