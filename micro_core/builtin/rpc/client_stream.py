"""A stream as the caller holds it (docs/wire.md §3.4)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from micro_core._wire.errors import EOS, error_from_wire
from micro_core.builtin.rpc.client_route import Route
from micro_core.client import Attempt, ClientStream
from micro_core.codec import Framing
from micro_core.errors import Closed, ConnectionLost, MicroError, ProtocolError, Timeout
from micro_core.message import Headers
from micro_core.transport import Head, Stream

__all__ = ["RpcStream"]

END: Headers = {b"Micro-Error": EOS}


class RpcStream(ClientStream[Any]):
    """A stream over any transport; ``id`` goes into the envelope that a legacy peer wants.

    ``on_end`` hears once that it ended, and by which error, where it was no good end.
    """

    def __init__(
        self,
        attempt: Attempt,
        route: Route,
        head: Head,
        stream: Stream,
        framing: Framing | None,
        id: int,
        on_end: Callable[[MicroError | None], None],
    ) -> None:
        self._on_end: Callable[[MicroError | None], None] | None = on_end
        self._service = attempt.call.service
        self._endpoint = attempt.call.endpoint
        self._node = attempt.node.address
        self._deadline = attempt.deadline
        self._errors = attempt.call.options.errors
        self._route = route
        self._head = head
        self._stream = stream
        self._framing = framing
        self._id = id
        self._sending = True
        self._end: MicroError | None = None
        self._ended = False

    def __repr__(self) -> str:
        state = "ended" if self._ended else "open" if self._sending else "half closed"
        return f"<RpcStream {self._service} {self._endpoint} at {self._node}, {state}>"

    async def send(self, request: Any) -> None:
        if not self._sending:
            raise Closed(f"{self._endpoint}: the sending side of the stream is closed")
        body = self._route.encode(request)
        if self._framing is not None:
            body = self._framing.pack_request(self._endpoint, self._id, body)
        await self._bounded(self._stream.send, self._head, {}, body)

    async def close_send(self) -> None:
        if self._sending:
            self._sending = False
            body = b"" if self._framing is None else self._framing.pack_request(self._endpoint, self._id, b"")
            await self._bounded(self._stream.send, self._head, END, body)

    async def receive(self) -> Any:
        if self._ended:
            raise self._end or StopAsyncIteration
        message = await self._bounded(self._stream.receive)
        body, error = message.body, message.headers.get(b"Micro-Error") or message.headers.get(b"X-Micro-Error")
        if not error:
            return self._route.decode(body if self._framing is None else self._unpacked(body))
        self._ended, self._sending = True, False
        if error == EOS:
            self._tell(None)
            raise StopAsyncIteration
        raise self._failed(error)

    def _unpacked(self, body: bytes) -> bytes:
        assert self._framing is not None
        _, body, text = self._framing.unpack_reply(body)
        if text:
            self._ended, self._sending = True, False
            raise self._failed(text)
        return body

    def _failed(self, text: bytes | str) -> MicroError:
        """Return the error by which the peer ended the stream."""
        self._end = self._placed(error_from_wire(text, self._errors))
        self._tell(self._end)
        return self._end

    def _tell(self, error: MicroError | None) -> None:
        """Say once that the stream ended."""
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(error)

    async def _bounded(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Await a step of the transport's stream until the deadline of this one, and say where what went wrong."""
        try:
            if self._deadline == math.inf:
                return await function(*arguments)
            with anyio.CancelScope(deadline=self._deadline):
                return await function(*arguments)
        except MicroError as error:
            self._placed(error)
            if isinstance(error, ConnectionLost | ProtocolError):
                self._tell(error)
            raise
        raise self._placed(Timeout(f"{self._service} {self._endpoint}: the stream's deadline passed"))

    def _placed(self, error: MicroError) -> MicroError:
        error.service, error.node, error.attempts = self._service, self._node, 1
        return error

    async def aclose(self) -> None:
        self._sending = False
        if not self._ended:
            self._ended, self._end = True, Closed(f"{self._endpoint}: the stream was left")
        self._tell(None)
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()
