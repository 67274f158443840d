"""A stream as the caller holds it (docs/wire.md §3.4)."""

from __future__ import annotations

import math
from typing import Any

import anyio

from micro_core._wire_errors import error_from_wire
from micro_core.builtin._route import Route
from micro_core.client import Call, ClientStream
from micro_core.errors import Closed, MicroError, Timeout
from micro_core.message import Headers
from micro_core.transport import Head, Stream

__all__ = ["EOS", "RpcStream"]

EOS = b"EOS"
"""The ``Micro-Error`` that ends one direction of a stream."""

END: Headers = {b"Micro-Error": EOS}


class RpcStream(ClientStream[Any]):
    """A stream over any transport."""

    def __init__(self, call: Call, route: Route, head: Head, stream: Stream) -> None:
        self._call = call
        self._deadline = call.deadline
        self._route = route
        self._head = head
        self._stream = stream
        self._sending = True
        self._end: MicroError | None = None
        self._ended = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._sending else "half closed"
        return f"<RpcStream {self._call.service} {self._call.endpoint} {state}>"

    async def send(self, request: Any) -> None:
        if not self._sending:
            raise Closed(f"{self._call.endpoint}: the sending side of the stream is closed")
        body = self._route.encode(request)
        if self._deadline == math.inf:
            await self._stream.send(self._head, {}, body)
            return
        with anyio.CancelScope(deadline=self._deadline) as scope:
            await self._stream.send(self._head, {}, body)
        self._check(scope)

    async def close_send(self) -> None:
        if self._sending:
            self._sending = False
            await self._stream.send(self._head, END, b"")

    async def receive(self) -> Any:
        if self._ended:
            raise self._end or StopAsyncIteration
        if self._deadline == math.inf:
            message = await self._stream.receive()
        else:
            with anyio.CancelScope(deadline=self._deadline) as scope:
                message = await self._stream.receive()
            self._check(scope)
        error = message.headers.get(b"Micro-Error") or message.headers.get(b"X-Micro-Error")
        if not error:
            return self._route.decode(message.body)
        self._ended, self._sending = True, False
        if error == EOS:
            raise StopAsyncIteration
        self._end = error_from_wire(error)
        self._end.service, self._end.attempts = self._call.service, 1
        raise self._end

    def _check(self, scope: anyio.CancelScope) -> None:
        if scope.cancelled_caught:
            raise Timeout(f"{self._call.service} {self._call.endpoint}: the stream's deadline passed")

    async def aclose(self) -> None:
        self._sending = False
        if not self._ended:
            self._ended, self._end = True, Closed(f"{self._call.endpoint}: the stream was left")
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()
