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

from micro_broker_http.subscribing.handshakes import log_refusal
from micro_core.tls import peer_names

__all__ = ["serve"]

log = logging.getLogger("micro.broker.http")

_GOODBYE_SECONDS = 0.5
"""How long a peer may take to answer the end of TLS."""
_REST_SECONDS = 1.0
"""How long nobody is let in after the system had nothing left to let somebody in with."""


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
    connections: dict[asyncio.Task[None], asyncio.StreamWriter | None] = {}
    """A writer is there once the handshake is done."""

    async def connected(accepted: socket.socket, remote: Any) -> None:
        opened = await _open(accepted, remote, tls, config.ssl_handshake_timeout)
        task = asyncio.current_task()
        if opened is None or task is None:
            return
        reader, writer = opened
        connections[task] = writer
        peer = writer.get_extra_info("ssl_object")
        app = app_for(() if peer is None else peer_names(peer))
        try:
            await TCPServer(app, loop, config, context, ConnectionState({}), reader, writer)
        except Exception:  # the server's own code: a connection that breaks it is lost alone
            log.debug("a connection of the broker's listener broke", exc_info=True)

    async def accept() -> None:
        while True:
            try:
                accepted, remote = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("nobody can be let in for a moment: %s", error)
                await asyncio.sleep(_REST_SECONDS)
                continue
            task = loop.create_task(connected(accepted, remote))
            connections[task] = None
            task.add_done_callback(connections.pop)

    accepting = loop.create_task(accept())
    try:
        await stop()
    finally:
        await context.terminated.set()
        accepting.cancel()
        await asyncio.wait([accepting])
        listening.close()
        for task, writer in connections.items():
            if writer is None:
                task.cancel()
        if connections:
            _, late = await asyncio.wait(connections, timeout=config.graceful_timeout)
            for task in late:
                if late_writer := connections[task]:
                    late_writer.transport.abort()
                task.cancel()
            if late:
                await asyncio.wait(late)


async def _open(
    accepted: socket.socket, remote: Any, tls: ssl.SSLContext | None, seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """Return both ends of a connection, or None where its handshake fails: asyncio's own server would not say why."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    patience: dict[str, Any] = {}
    if tls is not None:
        patience = {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": _GOODBYE_SECONDS}
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=tls, **patience)
    except OSError as error:  # those of TLS among them; the loop has closed the socket
        log_refusal(remote, None if isinstance(error, ConnectionAbortedError) else error, seconds)
        return None
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
