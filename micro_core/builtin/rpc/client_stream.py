"""A stream as the caller holds it (docs/wire.md §3.4)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from micro_core._calling.attempts import TargetedAttempt
from micro_core._calling.call_coding import CallCoding
from micro_core._wire.errors import EOS, error_from_wire
from micro_core.client import ClientStream
from micro_core.codec import Framing
from micro_core.errors import Closed, ConnectionLost, Executed, MicroError, ProtocolError, Timeout
from micro_core.message import Headers, Message
from micro_core.selector import Selector
from micro_core.transport import Head, Stream

__all__ = ["RpcStream"]

NOTHING: Headers = {}
END: Headers = {b"Micro-Error": EOS}


class StreamLife:
    """Reports to node list and selector, once each, whether a stream was answered and how it ended."""

    def __init__(self, attempt: TargetedAttempt, selector: Selector, now: Callable[[], float], opened: float) -> None:
        self._attempt = attempt
        self._selector = selector
        self._now = now
        self.opened = opened
        self._seconds = now() - opened
        self.is_answered = False
        self._ended = False

    def answered(self) -> None:
        """Note the first message of the peer."""
        self.is_answered = True
        self._attempt.target.answered = self._now()
        self._attempt.attempts.nodes.succeeded(self._attempt.target)

    def ended(self, error: MicroError | None = None) -> None:
        """Note the end; without an error it was well, or the caller left."""
        if self._ended:
            return
        self._ended = True
        ok, attempts = True, self._attempt.attempts
        if isinstance(error, ConnectionLost | ProtocolError) or (isinstance(error, Timeout) and not self.is_answered):
            ok = not attempts.count_against(self._attempt, error, self.opened)
        elif error is not None:
            attempts.ended(self._attempt, error)
        if self._selector.feedback:
            self._selector.finished(self._attempt.node, self._seconds, ok)


class RpcStream(ClientStream[Any]):
    """A stream over any transport; ``id`` goes into the envelope that a legacy peer wants."""

    def __init__(
        self,
        attempt: TargetedAttempt,
        coding: CallCoding,
        head: Head,
        stream: Stream,
        framing: Framing | None,
        id: int,
        life: StreamLife,
        deadline: float,
    ) -> None:
        self._life = life
        self._service = attempt.call.service
        self._endpoint = attempt.call.endpoint
        self._node = attempt.node.address
        self._deadline = deadline
        patience = attempt.call.options.answer_timeout
        self._first_deadline = deadline if patience is None else min(deadline, life.opened + patience)
        self._errors = attempt.call.options.errors
        self._coding = coding
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
        body = self._coding.encode(request)
        if self._framing is not None:
            body = self._framing.pack_request(self._endpoint, self._id, body)
        if self._deadline != math.inf:
            await self._bounded(self._stream.send, self._head, NOTHING, body)
            return
        try:
            await self._stream.send(self._head, NOTHING, body)
        except MicroError as error:
            self._broken(error)
            raise

    async def close_send(self) -> None:
        if self._sending:
            self._sending = False
            body = b"" if self._framing is None else self._framing.pack_request(self._endpoint, self._id, b"")
            await self._bounded(self._stream.send, self._head, END, body)

    async def receive(self) -> Any:
        if self._ended:
            raise self._end or StopAsyncIteration
        message = await self._next()
        body, error = message.body, message.headers.get(b"Micro-Error") or message.headers.get(b"X-Micro-Error")
        if not error:
            return self._coding.decode(body if self._framing is None else self._unpacked(body))
        self._ended, self._sending = True, False
        if error == EOS:
            self._life.ended()
            raise StopAsyncIteration
        raise self._failed(error)

    async def _next(self) -> Message:
        if not self._life.is_answered:
            return await self._first_answer()
        if self._deadline != math.inf:
            message: Message = await self._bounded(self._stream.receive)
            return message
        try:
            return await self._stream.receive()
        except MicroError as error:
            self._broken(error)
            raise

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
        self._life.ended(self._end)
        return self._end

    async def _first_answer(self) -> Message:
        """Return the first message of the peer. A node that does not answer in time is held to be out of order."""
        with anyio.CancelScope(deadline=self._first_deadline):
            message: Message = await self._bounded(self._stream.receive)
            self._life.answered()
            return message
        raise self._late("the stream had no answer in time")

    async def _bounded(self, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Await a step of the transport's stream until the deadline of this one, and say where what went wrong."""
        try:
            if self._deadline == math.inf:
                return await function(*arguments)
            with anyio.CancelScope(deadline=self._deadline):
                return await function(*arguments)
        except MicroError as error:
            self._broken(error)
            raise
        raise self._late("the stream's deadline passed")

    def _broken(self, error: MicroError) -> None:
        """Take note of what the transport raised, and say where."""
        self._placed(error)
        if isinstance(error, ConnectionLost | ProtocolError):
            self._life.ended(error)

    def _late(self, what: str) -> MicroError:
        answered = self._life.is_answered
        error = Timeout(
            f"{self._service} {self._endpoint}: {what}", executed=Executed.YES if answered else Executed.MAYBE
        )
        if not answered:
            self._life.ended(error)
        return self._placed(error)

    def _placed(self, error: MicroError) -> MicroError:
        error.service, error.node, error.attempts = self._service, self._node, 1
        return error

    async def aclose(self) -> None:
        self._sending = False
        if not self._ended:
            self._ended, self._end = True, Closed(f"{self._endpoint}: the stream was left")
        self._life.ended()
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()
