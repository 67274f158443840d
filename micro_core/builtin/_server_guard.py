"""Guards before the server: who may not ask is answered, and nothing of the request is decoded."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from micro_core._wire_errors import EOS
from micro_core.context import Context
from micro_core.errors import InternalError, MicroError
from micro_core.middleware import Guard
from micro_core.transport import Request

if TYPE_CHECKING:
    from micro_core.builtin.server_rpc import Dispatcher

__all__ = ["ENDPOINT", "TOPIC", "first_of", "guarded"]

log = logging.getLogger("micro.server")

ENDPOINT = (b"Micro-Endpoint", b"Micro-Method", b"X-Micro-Endpoint", b"X-Micro-Method")
TOPIC = (b"Micro-Topic", b"X-Micro-Topic")
"""The headers that say what a request is for; of each the first that is not empty counts."""


def first_of(headers: Mapping[bytes, bytes], *names: bytes) -> bytes:
    """Return the first value that is not empty, or nothing."""
    for name in names:
        value = headers.get(name)
        if value:
            return value
    return b""


def guarded(dispatcher: Dispatcher, guards: Sequence[Guard]) -> Callable[[Request], None]:
    """Return what receives requests in place of ``dispatcher``, and hands on those that every guard lets pass.

    A request that names an endpoint and a topic has to be allowed both, so that neither hides the other.
    """

    def receive(request: Request) -> None:
        headers = request.headers
        if request.stream is not None and headers.get(b"Micro-Error") == EOS:
            dispatcher.receive(request)  # the end of a stream that has ended here: nothing is handled
            return
        named = [name for name in (first_of(headers, *ENDPOINT), first_of(headers, *TOPIC)) if name]
        try:
            for name in named or [b""]:
                context = Context(
                    headers,
                    service=dispatcher.service,
                    endpoint=name.decode("utf-8", "replace"),
                    local=request.local,
                    remote=request.remote,
                    peer=request.peer,
                )
                for guard in guards:
                    guard(context)
        except MicroError as error:
            dispatcher.refuse(request, error)
        except Exception:
            log.exception("a guard failed, and the request is refused")
            dispatcher.refuse(request, InternalError("the request could not be checked"))
        else:
            dispatcher.receive(request)

    return receive
