"""hypercorn's connections on asyncio, under a TLS context of ours, and with the names of whoever calls."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, ConnectionState

from micro_core.tls import peer_names

__all__ = ["serve"]

log = logging.getLogger("micro.broker.http")

_GOODBYE_SECONDS = 0.5
"""How long a peer may take to answer the end of TLS."""


async def serve(
    app_for: Callable[[tuple[str, ...]], AppWrapper],
    config: Config,
    listening: socket.socket,
    tls: ssl.SSLContext | None,
    stop: Callable[[], Awaitable[Any]],
) -> None:
    """Serve a socket until ``stop`` returns, then let requests end; ``app_for`` takes the caller's verified names."""
    loop = asyncio.get_running_loop()
    context = WorkerContext(None)
    connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections[task] = writer
        task.add_done_callback(lambda task: connections.pop(task))
        peer = writer.get_extra_info("ssl_object")
        app = app_for(() if peer is None else peer_names(peer))
        try:
            await TCPServer(app, loop, config, context, ConnectionState({}), reader, writer)
        except Exception:  # the server's own code: a connection that breaks it is lost alone
            log.debug("a connection of the broker's listener broke", exc_info=True)

    patience: dict[str, Any] = {}
    if tls is not None:
        patience = {"ssl_handshake_timeout": config.ssl_handshake_timeout, "ssl_shutdown_timeout": _GOODBYE_SECONDS}
    server = await asyncio.start_server(connected, sock=listening, ssl=tls, backlog=config.backlog, **patience)
    try:
        await stop()
    finally:
        await context.terminated.set()
        server.close()
        if connections:
            _, late = await asyncio.wait(connections, timeout=config.graceful_timeout)
            for task in late:
                connections[task].transport.abort()
                task.cancel()
            if late:
                await asyncio.wait(late)
