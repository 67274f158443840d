"""The client's contract: calls and streams by a service's name."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeAlias, TypedDict, TypeVar

import msgspec
from msgspec.structs import force_setattr

from micro_core._settings.near_miss import did_you_mean
from micro_core.errors import BadRequest, ConfigError, Executed, MicroError
from micro_core.registry import Node, Record

__all__ = ["Attempt", "Call", "CallOptions", "CallOptionsDict", "Caller", "ClientDefaults", "ClientStream", "Filter"]

Filter: TypeAlias = Callable[[Sequence[Record]], Sequence[Record]]
"""Takes the records of a service and returns those, and of those the nodes, that may be called."""

Response = TypeVar("Response")

LONGEST_SECONDS = 9e9
"""What a header carries, 64 bits of nanoseconds (docs/wire.md §3.7), ends a little later."""


_SECONDS = ("timeout", "attempt_timeout", "open_timeout", "answer_timeout", "hedge_after")


class CallOptionsDict(TypedDict, total=False):
    """The keyword arguments of a call, for type checkers; what each means is told in `CallOptions`."""

    timeout: float | None
    attempt_timeout: float | None
    open_timeout: float | None
    answer_timeout: float | None
    hedge_after: float | None
    retries: int | None
    wait_for_ready: bool
    idempotent: bool | None
    filters: Sequence[Filter]
    address: str | None
    content_type: str | None
    metadata: Mapping[str, str] | None
    errors: Sequence[type[MicroError]]


class CallOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to make a call; what is None is as the client was configured."""

    timeout: float | None = None
    """Seconds for the whole call, retries included; `math.inf` for no limit."""
    attempt_timeout: float | None = None
    """Seconds for one attempt where another is allowed."""
    open_timeout: float | None = None
    """Seconds for opening a stream, retries included."""
    answer_timeout: float | None = None
    """Seconds from the opening of a stream until its first answer."""
    hedge_after: float | None = None
    """Seconds after which an idempotent call is made at a second node as well; the first answer counts."""
    wait_for_ready: bool = False
    """Wait for the service's first node as long as the deadline allows."""
    retries: int | None = None
    """Attempts after the first."""
    idempotent: bool | None = None
    """True: may be executed twice. None: as the endpoint declares."""
    filters: tuple[Filter, ...] = ()
    """A node has to pass all of them, which are asked for each attempt; any sequence will do, and becomes a tuple."""
    address: str | None = None
    """Call this ``host:port`` and ask no registry."""
    content_type: str | None = None
    """Instead of the one that belongs to the request's type."""
    metadata: Mapping[str, str] | None = None
    """Headers to send; not shown, for one of them may prove who we are."""
    errors: tuple[type[MicroError], ...] = ()
    """The application's own error classes that the endpoint may raise; others arrive as the class of their code."""

    def __repr__(self) -> str:
        return f"CallOptions({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "metadata"]

    def __post_init__(self) -> None:
        """Raise `BadRequest` for what cannot be meant, before anything is sent."""
        for name in _SECONDS:
            seconds = getattr(self, name)
            if seconds is not None and not _is_seconds(seconds):
                raise _bad(f"{name}={seconds!r} is not valid: seconds as a number from 0, or math.inf for no limit")
        if type(self.wait_for_ready) is not bool:
            raise _bad(f"wait_for_ready={self.wait_for_ready!r} is not valid: True or False")
        if self.retries is not None and not (type(self.retries) is int and self.retries >= 0):
            raise _bad(f"retries={self.retries!r} is not valid: a whole number from 0")
        for name, value in (self.metadata or {}).items():
            if not (isinstance(name, str) and isinstance(value, str)):
                raise _bad(f"metadata ({type(name).__name__}: {type(value).__name__}) is not valid: it holds texts")
        if self.filters != ():
            force_setattr(self, "filters", _all_of("filters", self.filters, callable, "functions of records"))
        if self.errors != ():
            force_setattr(self, "errors", _all_of("errors", self.errors, _is_error, "subclasses of MicroError"))


def call_options(options: CallOptionsDict) -> CallOptions:
    """Return the options of a call. Raises `ConfigError` for a name that is none, `BadRequest` for a value."""
    try:
        return CallOptions(**options)  # type: ignore[arg-type]  # sequences become tuples there
    except TypeError:
        for name in options:
            if name not in CallOptions.__struct_fields__:
                known = ", ".join(CallOptions.__struct_fields__)
                hint = did_you_mean(name, CallOptions.__struct_fields__)
                raise ConfigError(f"a call has no option {name!r}{hint or f'; it has: {known}'}") from None
        raise


def _all_of(name: str, values: object, fits: Callable[[object], bool], wanted: str) -> tuple[object, ...]:
    """Return ``values`` as a tuple. Raises `BadRequest` where they are no sequence, or one of them does not fit."""
    found = tuple(values) if isinstance(values, Iterable) else ()
    if not isinstance(values, Iterable) or not all(map(fits, found)):
        raise _bad(f"{name}={values!r} is not valid: a sequence of {wanted}")
    return found


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, MicroError)


def _is_seconds(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= LONGEST_SECONDS or value == math.inf


def _bad(detail: str) -> BadRequest:
    return BadRequest(detail, executed=Executed.NO)


DEFAULT_OPTIONS = CallOptions()


class ClientDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings say about every call of a client (docs/configuration.md)."""

    service: str = ""
    """The caller's own name, sent as ``Micro-From-Service``."""
    timeout: float = 5.0
    """Seconds for a whole unary call."""
    retries: int = 1
    """Attempts after the first."""
    proxy: str = ""
    """The service that gets all calls, whomever they are for."""
    proxy_address: str = ""
    """The address that gets all calls."""
    propagate: tuple[str, ...] = ()
    """Headers of a request that calls of its handler carry on."""


class Call:
    """A call on its way out, as client middleware sees it; ``metadata`` may be changed until it is sent.

    The client changes nothing of it: what becomes of it is in its attempts.
    """

    __slots__ = ("endpoint", "metadata", "options", "request", "request_type", "response_type", "service", "streaming")

    def __init__(
        self,
        service: str,
        endpoint: str,
        request: Any,
        response_type: Any,
        options: CallOptions = DEFAULT_OPTIONS,
        *,
        streaming: bool = False,
    ) -> None:
        self.service = service
        self.endpoint = endpoint
        self.request = request
        self.request_type: object = None if request is None else type(request)
        self.response_type = response_type
        self.options = options
        self.streaming = streaming
        self.metadata: dict[str, str] = dict(options.metadata) if options.metadata else {}

    def __repr__(self) -> str:
        return f"<Call {self.service} {self.endpoint}>"


class Attempt:
    """One attempt of a call, as call middleware sees it and hands it on; ``metadata`` may be changed until then."""

    __slots__ = ("call", "deadline", "metadata", "node", "number")

    def __init__(self, call: Call, node: Node, number: int, deadline: float, metadata: dict[str, str]) -> None:
        self.call = call
        self.node = node
        """The node chosen for this attempt."""
        self.number = number
        """How many attempts went before this one."""
        self.deadline = deadline
        """When it ends, on the clock of `anyio.current_time`; `math.inf` for never."""
        self.metadata = metadata
        """Headers to send with this attempt: those of the call, and what a handler's call carries on."""

    def __repr__(self) -> str:
        return f"<Attempt {self.number} of {self.call.service} {self.call.endpoint} at {self.node.address}>"


class ClientStream(ABC, Generic[Response]):
    """An open stream; iterate over it for the answers. One task may send while another receives."""

    @abstractmethod
    async def send(self, request: object) -> None:
        """Send one message. Waits while the server is slow. Raises `ConnectionLost`, `Closed` after `close_send`."""

    @abstractmethod
    async def close_send(self) -> None:
        """Say that no more messages follow; answers may still come. Doing it twice is fine."""

    @abstractmethod
    async def receive(self) -> Response:
        """Return the next answer. Raises StopAsyncIteration at the end, the handler's error, `ConnectionLost`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Leave the stream, which cancels a handler that still runs. Closing twice is fine."""

    def __aiter__(self) -> AsyncIterator[Response]:
        return self

    async def __anext__(self) -> Response:
        return await self.receive()


class Caller(ABC):
    """Makes calls: finds a node, sends, waits, tries again. An async context manager."""

    name: ClassVar[str]

    @abstractmethod
    async def call(self, call: Call) -> Any:
        """Return the reply to a unary call. Raises the errors of docs/errors.md, which say whether it was executed."""

    @abstractmethod
    async def open(self, call: Call) -> ClientStream[Any]:
        """Open a stream; ``call.request`` is not sent. Raises what `call` raises; only opening is tried again."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connections. Closing twice is fine; use after that raises `Closed`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
