"""One request under way on the server, isolated: whatever its handler does, other requests go on."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable
from typing import Protocol

import anyio
import sniffio

from micro_core._wire.errors import error_to_wire, status_of
from micro_core.builtin.rpc.handler_coding import HandlerCoding
from micro_core.codec import Framing
from micro_core.context import Context, _current
from micro_core.errors import Executed, InternalError, MicroError, RemoteError, Timeout, Unavailable
from micro_core.message import Headers, Message
from micro_core.server import OnEvent
from micro_core.transport import Head, Request

__all__ = ["NOTHING", "Counting", "EventExchange", "Exchange", "Fence", "refuse"]

log = logging.getLogger("micro.server")

NOTHING: Headers = {}


class Counting(Protocol):
    """The owner of a request, which counts those under way."""

    service: str
    now: Callable[[], float]
    """The clock of the deadlines."""
    ending: bool
    """Whatever is cancelled now is, because the server stops."""

    def finished(self, size: int = 0) -> None:
        """Count down a request, and the bytes that were counted for it."""


class Fence:
    """What every request under way has: a deadline, a way to cancel it, and an answer to whatever it raises.

    A job of the runner; ``started`` tells whether the handler has begun. It is not to begin after ``latest``, so that
    who is served under overload is served in time (docs/server.md, Overload), nor when the caller has given it up.
    """

    __slots__ = ("deadline", "dispatcher", "is_given_up", "is_stopped", "latest", "request", "scope", "started")

    def __init__(self, dispatcher: Counting, request: Request, deadline: float, latest: float = math.inf) -> None:
        self.dispatcher = dispatcher
        self.request = request
        self.deadline = deadline
        self.latest = latest
        self.scope: anyio.CancelScope | None = None
        self.started = False
        self.is_given_up = self.is_stopped = False
        request.abandon = self.give_up

    def waits(self, scope: anyio.CancelScope) -> None:
        self.scope = scope
        if self.is_given_up or self.is_stopped:
            scope.cancel()

    def give_up(self) -> None:
        """Take note that nobody waits for the answer: what has begun is cancelled, what has not never begins."""
        self.is_given_up = True
        if self.scope is not None:
            self.scope.cancel()

    def stop(self) -> None:
        """Cancel it, since the server stops."""
        self.is_stopped = True
        if self.scope is not None:
            self.scope.cancel()

    def check_is_wanted(self) -> None:
        """Raise `Unavailable` where the request is not to begin any more."""
        if self.is_stopped:
            raise Unavailable(f"{self.dispatcher.service} is stopping: try another node", executed=Executed.NO)
        if self.is_given_up:
            raise Unavailable("the caller gave it up before its turn came", executed=Executed.NO)
        if self.latest != math.inf and self.dispatcher.now() > self.latest:
            waited = "waited too long for its turn to be answered in time"
            raise Unavailable(
                f"{self.dispatcher.service} has too much to do, and the call {waited}: try another node",
                executed=Executed.NO,
            )

    def ends(self, error: BaseException) -> bool:
        """Tell whether ``error`` must go on to the runner: it cancelled the job, or the whole process is to stop."""
        if isinstance(error, KeyboardInterrupt):
            return True
        if not isinstance(error, anyio.get_cancelled_exc_class()):
            return False
        if sniffio.current_async_library() != "asyncio":
            return True  # nobody else can raise it there
        if self.scope is not None and self.scope.cancel_called:
            return True
        task = asyncio.current_task()
        while task is not None and task.cancelling():  # a handler that cancelled its own task
            task.uncancel()
        return False

    def failure(self, error: BaseException) -> str:
        """Return what goes to the caller as ``Micro-Error``; what nobody expected is logged, and masked."""
        service = self.dispatcher.service
        if isinstance(error, MicroError):
            self._keep_inside(error)
            error.executed = Executed.YES if self.started else Executed.NO
            return error_to_wire(error, service)
        if isinstance(error, anyio.get_cancelled_exc_class()):
            if self.is_stopped or self.dispatcher.ending:
                text = f"{service} is stopping, and has ended what was under way"
                return error_to_wire(Unavailable(text, executed=Executed.MAYBE), service)
            if self.scope is not None and self.scope.cancel_called:
                text = f"{service} did not finish before the deadline of the call"
                return error_to_wire(Timeout(text, executed=Executed.MAYBE), service)
        reference = secrets.token_hex(4)
        log.error("handler failed, reference %s: %s", reference, self._name(), exc_info=error)
        return error_to_wire(InternalError(f"internal error, reference {reference}"), service)

    def _keep_inside(self, error: MicroError) -> None:
        """Take what a client wrote out of an error that the handler lets through: it names nodes and services here.

        What another service answered for its callers to read stays as it is.
        """
        if not error.service or (error.executed is Executed.YES and (error.id or isinstance(error, RemoteError))):
            return
        log.warning("%s let through the error of a call to %s: %s", self._name(), error.service, error.detail)
        error.detail = f"a call to {error.service} failed: {status_of(error)}"

    def _name(self) -> str:
        return self.request.headers.get(b"Micro-Endpoint", b"no endpoint").decode("utf-8", "replace")

    def context(self, endpoint: str) -> Context:
        """Return the handler's context, ambient from now on."""
        request = self.request
        context = Context(
            request.headers,
            service=self.dispatcher.service,
            endpoint=endpoint,
            local=request.local,
            remote=request.remote,
            peer=request.peer,
            deadline=self.deadline,
        )
        _current.set(context)
        return context

    def finish(self, head: Head, headers: Headers, body: bytes) -> None:
        """Answer, and count the request down."""
        self.request.abandon = None
        self.request.respond(head, headers, body)
        self.dispatcher.finished(len(self.request.body))


class Exchange(Fence):
    """A unary request."""

    __slots__ = ("coding",)

    def __init__(
        self, dispatcher: Counting, coding: HandlerCoding, request: Request, deadline: float, latest: float
    ) -> None:
        super().__init__(dispatcher, request, deadline, latest)
        self.coding = coding

    async def run(self) -> None:
        coding = self.coding
        id, body = 0, self.request.body
        try:
            if self.is_given_up or self.dispatcher.now() > self.latest:
                self.check_is_wanted()
            context = self.context(coding.handler.name)
            if coding.framing is not None:
                _, id, body = coding.framing.unpack_request(body)
            argument = coding.decode(body)
            self.started = True
            value = await coding.invoke(context, argument)
            body = self.encode(value)
            if coding.framing is not None:
                body = coding.framing.pack_reply(coding.handler.name, id, body, "")
        except BaseException as error:
            text = self.failure(error)
            framing = coding.framing
            body = b"" if framing is None else framing.pack_reply(coding.handler.name, id, b"", text)
            self.finish(coding.head, {b"Micro-Error": text.encode()}, body)
            if self.ends(error):
                raise
            return
        self.finish(coding.head, NOTHING, body)

    def encode(self, value: object) -> bytes:
        """Return a reply's bytes; one that cannot be coded is the handler's fault, not the caller's."""
        try:
            return self.coding.encode(value)
        except MicroError as error:
            raise TypeError(f"{self.coding.handler.name} returned {type(value).__name__}: {error}") from error


class EventExchange(Fence):
    """An event that came to the rpc port (docs/wire.md §4.3)."""

    __slots__ = ("on_event", "topic")

    def __init__(self, dispatcher: Counting, on_event: OnEvent, topic: bytes, request: Request) -> None:
        super().__init__(dispatcher, request, math.inf)
        self.on_event = on_event
        self.topic = topic.decode("utf-8", "replace")
        self.started = True

    async def run(self) -> None:
        headers: Headers = NOTHING
        try:
            if self.is_given_up:
                self.started = False
                self.check_is_wanted()
            context = self.context(self.topic)
            await self.on_event(self.topic, Message(self.request.headers, self.request.body), context)
        except BaseException as error:
            headers = {b"Micro-Error": self.failure(error).encode()}
            if self.ends(error):
                self.finish(Head({}), headers, b"")
                raise
        self.finish(Head({}), headers, b"")


def refuse(dispatcher: Counting, request: Request, error: MicroError, framing: Framing | None) -> None:
    """Answer an error in place of a handler, in the envelope of a legacy peer where there is one."""
    error.executed = Executed.NO
    text = error_to_wire(error, dispatcher.service)
    body = b"" if framing is None else framing.pack_reply("", 0, b"", text)
    content_type = request.headers.get(b"Content-Type", b"text/plain")
    request.respond(Head({b"Content-Type": content_type}), {b"Micro-Error": text.encode()}, body)
