"""Middleware: functions round calls, handlers and subscribers, folded once when a service is put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from micro_core.broker import Publication
    from micro_core.client import Attempt, Call
    from micro_core.context import Context

__all__ = [
    "AttemptNext",
    "CallMiddleware",
    "CallNext",
    "ClientMiddleware",
    "Guard",
    "HandleNext",
    "HandlerMiddleware",
    "PublishMiddleware",
    "PublishNext",
    "SubscriberMiddleware",
    "fold",
]

CallNext: TypeAlias = "Callable[[Call], Awaitable[Any]]"
"""Goes on with a call; returns the reply, or the open stream where ``call.streaming``."""

ClientMiddleware: TypeAlias = "Callable[[Call, CallNext], Awaitable[Any]]"
"""Round a whole call: ``async def log(call, call_next): return await call_next(call)``."""

AttemptNext: TypeAlias = "Callable[[Attempt], Awaitable[Any]]"
"""Goes on with the attempt that the middleware was given; returns what `CallNext` does."""

CallMiddleware: TypeAlias = "Callable[[Attempt, AttemptNext], Awaitable[Any]]"
"""Round one attempt of a call: ``async def sign(attempt, attempt_next): return await attempt_next(attempt)``."""

HandleNext: TypeAlias = "Callable[[Context, Any], Awaitable[Any]]"
"""Goes on with a request; takes context and request (of a client's stream: the iterator)."""

HandlerMiddleware: TypeAlias = "Callable[[Context, Any, HandleNext], Awaitable[Any]]"
"""Round a handler; what it returns is the reply. Round a streaming handler it covers the stream from open to end."""

SubscriberMiddleware: TypeAlias = HandlerMiddleware
"""Round a subscriber; takes context and message."""

PublishNext: TypeAlias = "Callable[[Publication], Awaitable[None]]"
"""Goes on with publishing."""

PublishMiddleware: TypeAlias = "Callable[[Publication, PublishNext], Awaitable[None]]"
"""Round publishing: ``async def log(publication, publish_next): await publish_next(publication)``.

The message is encoded; headers may be added to it. It lasts as long as ``confirm`` has the publisher wait.
"""

Guard: TypeAlias = "Callable[[Context], None]"
"""Looks at a request before its body is decoded, and raises `Unauthorized` or `Forbidden` to refuse it.

Called once for a call, a stream or a message, synchronously; the context has headers, peer and addresses, and as its
endpoint what is about to run: ``Greeter.Hello``, a topic, or nothing where the request does not say. Of a legacy peer's
body, which names the endpoint (docs/wire.md §3.6), that name alone was read. Who names both is asked about both.
"""

_Innermost = TypeVar("_Innermost", bound=Callable[..., Awaitable[Any]])


def fold(innermost: _Innermost, middleware: Sequence[Callable[..., Awaitable[Any]]]) -> _Innermost:
    """Return one function that goes through ``middleware``, the first outermost, to ``innermost``."""
    folded: Any = innermost
    for layer in reversed(middleware):
        folded = _around(layer, folded)
    return folded  # type: ignore[no-any-return]


def _around(
    layer: Callable[..., Awaitable[Any]], inner: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    def layered(*arguments: Any) -> Awaitable[Any]:
        return layer(*arguments, inner)

    return layered
