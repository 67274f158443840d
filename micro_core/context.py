"""What a handler knows about the call that it answers: metadata, deadline, peer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import anyio

from micro_core.errors import ConfigError
from micro_core.message import Delivery, Headers, Metadata, canonical

__all__ = ["Context", "current_context", "propagated"]


class Context:
    """What a handler or subscriber knows about the request it works on.

    Passed as a handler's argument of this type, and ambient as `current_context`. Calls that the handler makes inherit
    its deadline and what `propagate` marks.
    """

    __slots__ = (
        "_headers",
        "_is_mended",
        "_metadata",
        "deadline",
        "delivery",
        "endpoint",
        "local",
        "peer",
        "propagated",
        "remote",
        "service",
    )

    def __init__(
        self,
        headers: Headers,
        *,
        service: str = "",
        endpoint: str = "",
        local: str = "",
        remote: str = "",
        peer: tuple[str, ...] = (),
        deadline: float = math.inf,
    ) -> None:
        self._headers = headers
        self._is_mended = False
        self._metadata: Metadata | None = None
        self.service = service
        """The name of the service that the handler belongs to."""
        self.endpoint = endpoint
        """``Greeter.Hello``, or the topic of a message."""
        self.local = local
        """The address that took the request."""
        self.remote = remote
        """The caller's address."""
        self.peer = peer
        """The names in the certificate that the caller was verified by; none without mutual TLS (docs/tls.md)."""
        self.deadline = deadline
        """On the clock of `anyio.current_time`; `math.inf` where there is none."""
        self.delivery: Delivery | None = None
        """How the message came that a subscriber works on: its id, attempt and time; None for calls."""
        self.propagated: dict[bytes, bytes] | None = None
        """Headers that nested calls carry on, beside those that always travel."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The request's headers, raw. ``Local`` and ``Remote`` are this process's to say, whatever the caller sent."""
        if not self._is_mended:
            self._is_mended = True
            self._headers = _with_own_addresses(self._headers, self.local, self.remote)
        return self._headers

    @property
    def metadata(self) -> Metadata:
        """The request's headers as text; look-ups ignore case. ``Local`` and ``Remote`` are as in `headers`."""
        if self._metadata is None:
            self._metadata = Metadata.from_headers(self.headers)
        return self._metadata

    @property
    def state(self) -> Any:
        """What the service's lifespan has yielded, ``Service(lifespan=…)``; None without one."""
        return service_state.get()

    @property
    def stopping(self) -> anyio.Event:
        """Set as soon as the server that handles this request begins to stop: `is_set` tells, `wait` waits for it.

        What can end early, an endless stream above all, ends then; where nobody tells, it is never set.
        """
        return server_stopping.get() or anyio.Event()

    def propagate(self, key: str, value: str | None = None) -> None:
        """Have nested calls carry on the header ``key``: with ``value``, or as this request has it (absent: nothing).

        Raises ValueError for a header that must stay where it is, such as ``Authorization`` or ``Timeout``.
        """
        name = _propagable(key)
        text = self._headers.get(name) if value is None else value.encode()
        if text is not None:
            self.propagated = {**(self.propagated or {}), name: text}

    def __repr__(self) -> str:
        return f"<Context {self.endpoint} of {self.service} from {self.remote or 'nowhere'}>"


def _with_own_addresses(headers: Headers, local: str, remote: str) -> Headers:
    """Return the headers with the two addresses that Go Micro's servers put there (docs/wire.md §2.6), or none."""
    others = {name: value for name, value in headers.items() if name not in (b"Local", b"Remote")}
    own = ((b"Local", local.encode()), (b"Remote", remote.encode()))
    return others | {name: value for name, value in own if value}


NEVER_PROPAGATED = frozenset(
    b"Authorization Proxy-Authorization Cookie Timeout Local Remote Content-Type Content-Length Content-Encoding "
    b"Accept Accept-Encoding Connection Host User-Agent Transfer-Encoding Upgrade Te Trailer Keep-Alive Expect".split()
)
"""Headers that say something about one hop, or prove who somebody is (docs/wire.md §3.8 and §8)."""

_ALWAYS_PROPAGATED = (b"Traceparent", b"Tracestate", b"Micro-From-Service")


def propagated(configured: Iterable[str]) -> tuple[bytes, ...]:
    """Return the headers of a request that calls of its handler carry on: those ``configured``, and a few always.

    Raises `ConfigError` for one that must stay where it is.
    """
    try:
        return tuple(dict.fromkeys((*_ALWAYS_PROPAGATED, *map(_propagable, configured))))
    except ValueError as error:
        raise ConfigError(f"propagate: {error}") from error


def _propagable(key: str) -> bytes:
    name = canonical(key).encode()
    if name in NEVER_PROPAGATED or (name.startswith(b"Micro-") and name != b"Micro-From-Service"):
        raise ValueError(f"{key!r} is for one hop only and cannot be propagated")
    return name


service_state: ContextVar[Any] = ContextVar("micro_service_state", default=None)
"""What the service's lifespan has yielded, in all of the service's tasks; services set it."""

server_stopping: ContextVar[anyio.Event | None] = ContextVar("micro_server_stopping", default=None)
"""Set when the server stops whose tasks see this; servers set it (`context.stopping`)."""

_current: ContextVar[Context | None] = ContextVar("micro_context", default=None)


def current_context() -> Context | None:
    """Return the context of the request that is being handled, or None outside a handler."""
    return _current.get()
