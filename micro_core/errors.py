"""Everything that can go wrong, one class for each thing that a caller handles differently.

MicroError
├── ConfigError            a setting is wrong; the text names it, where it came from, and what is valid
├── PluginError            a plugin cannot be found, loaded or used
│   └── PluginNotFound     no installed distribution offers that name
├── BadRequest        400  the request does not fit
│   ├── DecodeError        bytes are not what their content type says, or do not fit the type
│   └── EncodeError        a value cannot be written in that content type
├── Unauthorized      401
├── Forbidden         403
├── NotFound          404  no such endpoint, or no such thing
├── Timeout           408  the deadline passed
├── Conflict          409
├── LimitExceeded     429  (413 and 431 too) too large, too many, or too often
├── InternalError     500  a fault of the server, masked
├── RemoteError            the peer answered an error that has no class of its own
├── Unavailable       503
│   ├── NoNode             the registry knows no node that fits
│   ├── ConnectFailed      a node could not be reached; nothing was executed
│   ├── ConnectionLost     a node went away in mid-call
│   └── RegistryError      the registry gave no answer
├── ProtocolError     502  a peer broke the protocol
├── PublishError           a message was not kept for, or not handled by, some of its subscribers
└── Closed                 used after it was closed
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "BadRequest",
    "Closed",
    "ConfigError",
    "Conflict",
    "ConnectFailed",
    "ConnectionLost",
    "DecodeError",
    "EncodeError",
    "Executed",
    "Forbidden",
    "InternalError",
    "LimitExceeded",
    "MicroError",
    "NoNode",
    "NotFound",
    "PluginError",
    "PluginNotFound",
    "ProtocolError",
    "PublishError",
    "RegistryError",
    "RemoteError",
    "Timeout",
    "Unauthorized",
    "Unavailable",
]


class Executed(StrEnum):
    """Whether the handler ran: decides what may be sent again (docs/client.md)."""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


class MicroError(Exception):
    """The root of every error that this framework raises, and of an application's own.

    ``detail`` is the text for people, ``details`` any JSON value for programs, ``code`` an HTTP status, ``id`` says who
    made the error (a service's name, as in Go Micro), ``executed`` whether the handler ran. ``service``, ``node`` and
    ``attempts`` are filled in by the client; so is ``types``, the names of the application's classes that the error
    was of where it was raised, the nearest first.
    """

    default_code: ClassVar[int] = 500
    default_executed: ClassVar[Executed] = Executed.YES

    # As it is where a subclass does not call this class's `__init__`.
    detail: str = ""
    details: Any = None
    types: tuple[str, ...] = ()
    code: int = 500
    id: str = ""
    executed: Executed = Executed.YES
    service: str = ""
    node: str = ""
    attempts: int = 0

    def __init__(
        self,
        detail: str = "",
        *,
        code: int = 0,
        id: str = "",
        details: Any = None,
        executed: Executed | None = None,
        service: str = "",
        node: str = "",
        attempts: int = 0,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.details = details
        self.code = code or self.default_code
        self.id = id
        self.executed = executed or self.default_executed
        self.service = service
        self.node = node
        self.attempts = attempts

    def __str__(self) -> str:
        return self.detail

    def __repr__(self) -> str:
        shown = [repr(self.detail), f"code={self.code}"]
        shown += [f"{name}={value!r}" for name in ("id", "types", "service", "node") if (value := getattr(self, name))]
        return f"{type(self).__name__}({', '.join(shown)}, executed={self.executed.value})"


class ConfigError(MicroError):
    """A setting is wrong; nothing was started."""

    default_code = 400
    default_executed = Executed.NO


class PluginError(MicroError):
    """A plugin cannot be loaded or used; the text names the distribution, its version and the cause."""


class PluginNotFound(PluginError):
    """No installed distribution offers the plugin."""


class BadRequest(MicroError):
    """The request does not fit what the endpoint takes."""

    default_code = 400


class DecodeError(BadRequest):
    """Bytes are malformed or do not fit the type; the one error that every decoder raises."""


class EncodeError(BadRequest):
    """A value cannot be written in the content type that was asked for; nothing was sent."""

    default_executed = Executed.NO


class Unauthorized(MicroError):
    """The caller did not say who it is."""

    default_code = 401


class Forbidden(MicroError):
    """The caller may not do this."""

    default_code = 403


class NotFound(MicroError):
    """The endpoint, or what the request names, does not exist."""

    default_code = 404


class Timeout(MicroError, TimeoutError):
    """The deadline passed before the answer came; also a `TimeoutError` of Python's."""

    default_code = 408


class Conflict(MicroError):
    """The request does not fit the state of things."""

    default_code = 409


class LimitExceeded(MicroError):
    """Too large, too many, or too often."""

    default_code = 429


class InternalError(MicroError):
    """A fault of the server; its cause is in the server's log under the id that the text names."""

    default_code = 500


class RemoteError(MicroError):
    """An error that the peer answered and that has no class here; ``code`` is 0 where it gave only a text."""

    def __init__(
        self, detail: str = "", *, code: int = 0, id: str = "", details: Any = None, executed: Executed = Executed.YES
    ) -> None:
        super().__init__(detail, code=code, id=id, details=details, executed=executed)
        self.code = code


class Unavailable(MicroError):
    """Nobody is there to answer now."""

    default_code = 503


class NoNode(Unavailable):
    """The registry answered, and knows no node that fits."""

    def __init__(self, detail: str = "", *, service: str = "") -> None:
        super().__init__(detail, executed=Executed.NO, service=service)


class ConnectFailed(Unavailable):
    """A node could not be reached; nothing was sent."""

    def __init__(self, detail: str = "", *, node: str = "") -> None:
        super().__init__(detail, executed=Executed.NO, node=node)


class ConnectionLost(Unavailable):
    """A node went away while a call was under way."""

    def __init__(self, detail: str = "", *, node: str = "", executed: Executed = Executed.MAYBE) -> None:
        super().__init__(detail, executed=executed, node=node)


class RegistryError(Unavailable):
    """The registry gave no answer: not the same as answering that there is no such service.

    ``permanent`` says that waiting does not help until somebody changes a setting: a wrong password, a missing right.
    """

    def __init__(self, detail: str = "", *, permanent: bool = False) -> None:
        super().__init__(detail, executed=Executed.NO)
        self.permanent = permanent


class ProtocolError(MicroError):
    """A peer sent what its protocol does not allow; the connection is closed."""

    default_code = 502


class PublishError(MicroError):
    """A message was not kept for, or not handled by, everyone who should have it.

    ``failed`` names the subscribers concerned: node ids, or none where no subscriber is known at all.
    """

    default_code = 503

    def __init__(self, detail: str = "", *, failed: Sequence[str] = ()) -> None:
        super().__init__(detail, executed=Executed.MAYBE if failed else Executed.NO)
        self.failed = tuple(failed)


class Closed(MicroError):
    """The object was closed, or not opened yet."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, executed=Executed.NO)
