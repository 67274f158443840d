"""hypercorn's connections on trio, under a TLS context of ours, and with the names of whoever calls."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, ConnectionState

from micro_broker_http.subscribing.handshakes import log_refusal
from micro_core.tls import peer_names

__all__ = ["serve"]

log = logging.getLogger("micro.broker.http")


async def serve(
    app_for: Callable[[tuple[str, ...]], AppWrapper],
    config: Config,
    listening: socket.socket,
    tls: ssl.SSLContext | None,
    stop: Callable[[], Awaitable[Any]],
) -> None:
    """Serve a socket until ``stop`` returns, then let requests end; ``app_for`` takes the caller's verified names."""
    context = WorkerContext(None)

    async def connected(stream: Any) -> None:
        names: tuple[str, ...] = ()
        if tls is not None:
            remote = stream.transport_stream.socket.getpeername()
            try:
                with trio.fail_after(config.ssl_handshake_timeout):
                    await stream.do_handshake()
            except (trio.BrokenResourceError, trio.TooSlowError) as error:
                why = None if isinstance(error, trio.TooSlowError) else error.__cause__ or error
                log_refusal(remote, why, config.ssl_handshake_timeout)
                await trio.aclose_forcefully(stream)
                return
            names = peer_names(stream)
        try:
            await TCPServer(app_for(names), config, context, ConnectionState({}), stream)
        except Exception:  # the server's own code: a connection that breaks it is lost alone
            log.debug("a connection of the broker's listener broke", exc_info=True)
            await trio.aclose_forcefully(stream)

    listener: Any = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    if tls is not None:
        listener = trio.SSLListener(listener, tls, https_compatible=True)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            serving = partial(trio.serve_listeners, connected, [listener], handler_nursery=connections)
            accepting.start_soon(serving)
            await stop()
            accepting.cancel_scope.cancel()
        await context.terminated.set()
        connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
