"""Which protocol a caller speaks in clear text: its first bytes tell (RFC 9113 §3.3)."""

from __future__ import annotations

from collections.abc import Callable

from micro_transport_http.http2.frames import PREFACE
from micro_transport_http.io.link import Link, Owner

__all__ = ["Greeting"]

_TELLING = PREFACE[:3]
"""As many bytes of the preface as no method of HTTP/1.1 begins with."""


class Greeting(Owner):
    """Owns a link until its first bytes have come, in place of the owner that speaks HTTP/1.1."""

    def __init__(self, link: Link, http1: Owner, http2: Callable[[Link], Owner]) -> None:
        self._link = link
        self._http1 = http1
        self._http2 = http2
        self._begun = b""

    def received(self, data: bytes) -> None:
        """Hand on what came, once it tells whose it is."""
        data = self._begun + data
        if data.startswith(_TELLING):
            self._link.owner = self._http2(self._link)
        elif _TELLING.startswith(data):
            self._begun = data
            return
        else:
            self._link.owner = self._http1
        self._link.owner.received(data)

    def lost(self) -> None:
        """Tell the owner of what was not begun."""
        self._http1.lost()

    def writable(self, writable: bool) -> None:
        """Nothing was written."""
