"""Guards before the handlers: asked about what is about to run, before its argument is decoded."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from micro_core.builtin.rpc.purpose import Purpose
from micro_core.context import Context
from micro_core.errors import InternalError, MicroError
from micro_core.middleware import Guard
from micro_core.transport import Request

__all__ = ["ask"]

log = logging.getLogger("micro.server")


def ask(guards: Sequence[Guard], service: str, request: Request, purpose: Purpose) -> None:
    """Ask every guard about a request. Raises what they raise, and `InternalError` where one failed.

    A request that names an endpoint and a topic has to be allowed both, so that neither hides the other; one that names
    neither is asked about as ``""``.
    """
    for name in [name for name in (purpose.endpoint, purpose.topic) if name] or [b""]:
        context = Context(
            request.headers,
            service=service,
            endpoint=name.decode("utf-8", "replace"),
            local=request.local,
            remote=request.remote,
            peer=request.peer,
        )
        try:
            for guard in guards:
                guard(context)
        except MicroError:
            raise
        except Exception as error:
            log.exception("a guard failed, and the request is refused")
            raise InternalError("the request could not be checked") from error
