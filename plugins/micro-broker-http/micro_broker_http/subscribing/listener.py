"""Where messages arrive: hypercorn, on the socket and under the backend that we run on."""

from __future__ import annotations

import importlib
import logging
import socket
import ssl
from typing import Any

import anyio
import sniffio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config

from micro_broker_http.subscribing.app import BrokerApp
from micro_core.tls import HANDSHAKE_SECONDS

__all__ = ["Listener"]

IDLE = 130.0
"""Seconds that an idle connection lives; Go keeps its own for 60 s, and loses a message when we close first."""
HEADERS = 64 << 10
GRACE = 3.0
"""Seconds that requests may take to end after `Listener.stop`."""
log = logging.getLogger("micro.broker.http")
server_log = log.getChild("server")
server_log.setLevel(logging.WARNING)  # the server's own start lines name the descriptor that we gave it, nothing else


class Listener:
    """An ASGI server on a socket that listens already, so that nobody who connects is refused."""

    def __init__(self, app: BrokerApp, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._app = app
        self._socket = listening
        self._tls = tls
        self._stop = anyio.Event()
        self._stopped = anyio.Event()

    async def run(self) -> None:
        """Serve until `stop`; a server that fails is started again on the same socket."""
        try:
            while not self._stop.is_set():
                with anyio.CancelScope(shield=True):
                    await self._serve()
        finally:
            self._socket.close()
            self._stopped.set()

    async def _serve(self) -> None:
        config = Config()
        config.errorlog = server_log
        config.include_server_header = False
        config.keep_alive_timeout = IDLE
        config.keep_alive_max_requests = 1 << 31
        config.h11_max_incomplete_size = HEADERS
        config.graceful_timeout = GRACE
        config.ssl_handshake_timeout = HANDSHAKE_SECONDS
        backend = "trio" if sniffio.current_async_library() == "trio" else "asyncio"
        module = importlib.import_module(f"micro_broker_http.subscribing.serve_{backend}")
        try:
            await module.serve(self._app_for, config, self._socket.dup(), self._tls, self._stop.wait)
        except Exception:
            log.exception("the broker's server failed; it is started again")

    def _app_for(self, peer: tuple[str, ...]) -> ASGIWrapper:
        application: Any = self._app.called_by(peer)
        return ASGIWrapper(application)

    async def stop(self) -> None:
        """Take no more connections, let requests end, close the rest, and return when all are closed."""
        self._stop.set()
        await self._stopped.wait()

    def __repr__(self) -> str:
        return f"<Listener {'stopped' if self._stop.is_set() else self._socket.getsockname()}>"
