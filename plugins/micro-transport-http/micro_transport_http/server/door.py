"""The door of the rpc port: which requests are calls at all, and which of them a web page may have sent.

A page can have a browser POST to any address its user reaches, with a body of its choice, and without asking first
as long as the headers are plain (fetch.spec.whatwg.org, "CORS-safelisted"). Such a request says so in its `Origin`. By
DNS rebinding the address behind a page's own name becomes ours: then `Host` names the page's.
"""

from __future__ import annotations

from collections.abc import Sequence

from micro_core import ConfigError, Headers
from micro_transport_http.http1.refusal import Refusal

__all__ = ["Door"]

_NO_PAGE = "there are no pages here: services answer calls, which are POSTs"
_NO_CALL = "a call is a POST"


class Door:
    """Lets calls in.

    ``origins`` are those of web pages whose requests are calls (``https://shop.example``, or ``*`` for any), none
    unless named. ``hosts`` are the names and addresses, without a port, that callers may know this listener by; any
    unless named.
    """

    def __init__(self, *, origins: Sequence[str] = (), hosts: Sequence[str] = ()) -> None:
        self._origins = frozenset(_origin(text) for text in origins)
        self._hosts = frozenset(_host(text) for text in hosts)

    def check(self, method: bytes | None, host: bytes | None, headers: Headers) -> None:
        """Raise `Refusal` for what is no call, and for calls that are not let in."""
        if method != b"POST":
            raise Refusal(404, _NO_PAGE) if method in (b"GET", b"HEAD") else Refusal(405, _NO_CALL)
        origin = headers.get(b"Origin")
        if origin is not None and "*" not in self._origins:
            name = origin.decode("latin-1").lower()
            if name not in self._origins:
                raise Refusal(403, f"web pages of {name[:200]!r} may not call here: allow them by origins=")
        if self._hosts and _bare(host or b"") not in self._hosts:
            raise Refusal(421, f"this is not {(host or b'')[:200].decode('latin-1')!r}: hosts= says what is")

    def __repr__(self) -> str:
        return f"<Door origins={sorted(self._origins)} hosts={sorted(self._hosts) or 'any'}>"


def _bare(host: bytes) -> str:
    """Return a `Host` header without its port, in lower case."""
    text = host.decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    return name if colon and port.isdecimal() and (":" not in name or name.endswith("]")) else text


def _origin(text: str) -> str:
    plain = text.strip().lower()
    scheme, separator, rest = plain.partition("://")
    if plain not in ("*", "null") and not (scheme and separator and rest and "/" not in rest):
        raise ConfigError(f"origins: {text!r} is no origin; write https://shop.example, as browsers do, or * for any")
    return plain


def _host(text: str) -> str:
    plain = text.strip().lower()
    if not plain or "/" in plain or _bare(plain.encode()) != plain:
        raise ConfigError(f"hosts: {text!r} is no host; write a name or an address without a port, IPv6 in brackets")
    return plain
