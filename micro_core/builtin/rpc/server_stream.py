"""A stream under way on the server (docs/wire.md §3.4, docs/protocol.md §5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio

from micro_core._wire.errors import EOS, error_from_wire, error_to_wire
from micro_core.builtin.rpc.exchange import NOTHING, Counting, Fence
from micro_core.builtin.rpc.handler_coding import HandlerCoding
from micro_core.codec import Framing
from micro_core.context import Context
from micro_core.errors import BadRequest, ConnectionLost, Executed, MicroError
from micro_core.message import Headers
from micro_core.middleware import fold
from micro_core.server import HandlerKind
from micro_core.transport import Head, Request, Stream

__all__ = ["LeftStream", "RefusedStream", "StreamExchange"]

ENDING_SECONDS = 1.0
"""Seconds for sending the last message of a stream whose handler was cancelled."""


class _Requests:
    """The messages of the caller, decoded, until its end of stream."""

    def __init__(self, stream: Stream, coding: HandlerCoding) -> None:
        self._stream = stream
        self._coding = coding
        self._ended = False

    def __aiter__(self) -> AsyncIterator[object]:
        return self

    async def __anext__(self) -> object:
        if self._ended:
            raise StopAsyncIteration
        message = await self._stream.receive()
        error = message.headers.get(b"Micro-Error")
        if not error:
            framing = self._coding.framing
            return self._coding.decode(message.body if framing is None else framing.unpack_request(message.body)[2])
        self._ended = True
        if error == EOS:
            raise StopAsyncIteration
        raise error_from_wire(error)


class StreamExchange(Fence):
    """A request that opened a stream, of any kind of handler; among ``open_streams`` until it has ended."""

    __slots__ = ("coding", "head", "open_streams", "stream")

    def __init__(
        self,
        dispatcher: Counting,
        coding: HandlerCoding,
        request: Request,
        stream: Stream,
        deadline: float,
        latest: float,
        open_streams: set[StreamExchange],
    ) -> None:
        super().__init__(dispatcher, request, deadline, latest)
        self.coding = coding
        self.stream = stream
        self.head = _head(request)
        self.open_streams = open_streams
        open_streams.add(self)

    async def run(self) -> None:
        end: Headers = {b"Micro-Error": EOS}
        try:
            self.check_is_wanted()
            await self._handle(self.context(self.coding.handler.name))
            if self.coding.handler.kind is HandlerKind.UNARY:
                end = NOTHING  # one answer, and no end of stream
        except ConnectionLost as error:
            end = {b"Micro-Error": self.failure(error).encode()}  # of a call that the handler made, or of nobody's use
        except BaseException as error:
            end = {b"Micro-Error": self.failure(error).encode()}
            if self.ends(error):
                await self._finish(end)
                raise
        await self._finish(end)

    async def _handle(self, context: Context) -> None:
        """Call the handler with what it takes, middleware round it, and send what it gives."""
        coding, kind = self.coding, self.coding.handler.kind
        argument: Any = _Requests(self.stream, coding)
        if kind is HandlerKind.UNARY:
            body = self.request.body
            argument = coding.decode(body if coding.framing is None else coding.framing.unpack_request(body)[2])
        elif kind is HandlerKind.SERVER_STREAM:
            argument = await anext(argument, _MISSING)
            if argument is _MISSING:
                raise BadRequest(f"{coding.handler.name}: the stream ended before its argument")
            self.stream.discard()
        self.started = True
        await fold(self._drive, coding.middleware)(context, argument)

    async def _drive(self, context: Context, argument: object) -> None:
        handler = self.coding.handler
        if handler.kind in (HandlerKind.UNARY, HandlerKind.CLIENT_STREAM):
            await self._send(await handler.function(context, argument))
            return
        replies = handler.function(context, argument)
        async with AsyncExitStack() as cleanup:
            if hasattr(replies, "aclose"):
                cleanup.push_async_callback(replies.aclose)
            async for reply in replies:
                await self._send(reply)

    @property
    def _id(self) -> int:
        """The caller's number, for the envelope of a legacy peer."""
        text = self.request.headers.get(b"Micro-Id", b"")
        return int(text) if text.isdigit() and len(text) < 20 else 0

    async def _send(self, reply: object) -> None:
        try:
            body = self.coding.encode(reply)
        except MicroError as error:
            raise TypeError(f"{self.coding.handler.name} gave {type(reply).__name__}: {error}") from error
        if self.coding.framing is not None:
            body = self.coding.framing.pack_reply(self.coding.handler.name, self._id, body, "")
        await self.stream.send(self.head, NOTHING, body)

    async def _finish(self, end: Headers) -> None:
        """Say how it ended, unless nobody is there any more, and let go."""
        gone = self.is_given_up
        self.request.abandon = None
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + ENDING_SECONDS):
            try:
                if end and not gone:
                    await self.stream.send(self.head, end, _ending(self.coding.framing, self.coding.handler.name, end))
            except MicroError:
                pass
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()
        self.open_streams.discard(self)
        self.dispatcher.finished()


class RefusedStream(Fence):
    """A stream that gets an error in place of a handler."""

    __slots__ = ("error", "framing", "stream")

    def __init__(
        self, dispatcher: Counting, request: Request, stream: Stream, error: MicroError, framing: Framing | None
    ) -> None:
        super().__init__(dispatcher, request, anyio.current_time() + ENDING_SECONDS)
        self.stream = stream
        self.error = error
        self.framing = framing

    async def run(self) -> None:
        self.error.executed = Executed.NO
        end = {b"Micro-Error": error_to_wire(self.error, self.dispatcher.service).encode()}
        try:
            await self.stream.send(_head(self.request), end, _ending(self.framing, "", end))
        except MicroError:
            pass
        finally:
            self.request.abandon = None
            with anyio.CancelScope(shield=True):
                await self.stream.aclose()
            self.dispatcher.finished()


class LeftStream(Fence):
    """A stream whose first message is its end: one that has ended here already, or never was; nothing is answered.

    It is closed, as Go Micro does from v5.1 on (docs/wire.md §3.4), so that it holds no connection.
    """

    __slots__ = ("stream",)

    def __init__(self, dispatcher: Counting, request: Request, stream: Stream) -> None:
        super().__init__(dispatcher, request, anyio.current_time() + ENDING_SECONDS)
        self.stream = stream

    async def run(self) -> None:
        self.request.abandon = None
        with anyio.CancelScope(shield=True):
            await self.stream.aclose()
        self.dispatcher.finished()


_MISSING = object()


def _ending(framing: Framing | None, endpoint: str, end: Headers) -> bytes:
    """Return the body of a stream's last message: a legacy peer reads its envelope first (docs/wire.md §3.5)."""
    return b"" if framing is None else framing.pack_reply(endpoint, 0, b"", end[b"Micro-Error"].decode())


def _head(request: Request) -> Head:
    """Return the headers of every answer on a stream."""
    headers = request.headers
    names = (b"Content-Type", b"Micro-Id", b"Micro-Stream")
    return Head({name: headers[name] for name in names if name in headers})
