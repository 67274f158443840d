"""The server ``rpc``: answers Go Micro's calls, streams and events (docs/wire.md §3, §4.3)."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from micro_core._plugins.build import build
from micro_core._runtime.jobs import Job, Runner
from micro_core._runtime.runner import clock, open_runner
from micro_core._wire.codec_set import CodecSet
from micro_core._wire.errors import EOS
from micro_core.builtin.rpc.exchange import EventExchange, Exchange, refuse
from micro_core.builtin.rpc.guard import ask
from micro_core.builtin.rpc.handler_coding import HandlerCoding, handler_coding
from micro_core.builtin.rpc.purpose import Purpose, asked_in, content_type_of, purpose_of
from micro_core.builtin.rpc.server_stream import LeftStream, RefusedStream, StreamExchange
from micro_core.codec import Codec
from micro_core.context import server_stopping
from micro_core.errors import BadRequest, ConfigError, MicroError, NotFound, Timeout, Unavailable
from micro_core.hookspecs import hookimpl
from micro_core.middleware import Guard, HandlerMiddleware
from micro_core.server import Handler, HandlerKind, OnEvent, Running, Server
from micro_core.transport import Limits, Listener, Request, Transport

__all__ = ["RpcServer"]

PATIENCE_FOR_TURN = 0.5
"""The share of its time that a call may wait for its turn: what is left is for the handler, or for another node."""

log = logging.getLogger("micro.server")


@hookimpl
def make_server(
    transport: Transport,
    codecs: Sequence[Codec],
    middleware: Sequence[HandlerMiddleware],
    guards: Sequence[Guard],
    options: Mapping[str, str],
) -> Server:
    return build(RpcServer, options, transport=transport, codecs=codecs, middleware=middleware, guards=guards)


class RpcServer(Server):
    """Answers calls over any transport.

    ``any_service``: take calls that name another service as well, as a proxy has to (`MICRO_PROXY`); others refuse
    them, since their address may have been another's (docs/server.md). ``stream_grace``: seconds that streams have to
    end by themselves when the server stops; those that do not are ended. Raises `ConfigError` where it is below 0.
    """

    name = "rpc"

    def __init__(
        self,
        *,
        transport: Transport,
        codecs: Sequence[Codec],
        middleware: Sequence[HandlerMiddleware] = (),
        guards: Sequence[Guard] = (),
        any_service: bool = False,
        stream_grace: float = 5.0,
    ) -> None:
        if not stream_grace >= 0:
            raise ConfigError(f"stream_grace={stream_grace!r} is not valid: seconds, 0 or more")
        self._any_service = any_service
        self._stream_grace = stream_grace
        self._transport = transport
        self._codecs = CodecSet(codecs)
        self._middleware = tuple(middleware)
        self._guards = tuple(guards)

    @property
    def metadata(self) -> Mapping[str, str]:
        return {"protocol": "mucp", "server": "mucp", "transport": self._transport.name, **self._transport.metadata}

    def serve(
        self, service: str, address: str, handlers: Mapping[str, Handler], on_event: OnEvent, limits: Limits
    ) -> AbstractAsyncContextManager[Running]:
        return self._serve(service, address, handlers, on_event, limits)

    @asynccontextmanager
    async def _serve(
        self, service: str, address: str, handlers: Mapping[str, Handler], on_event: OnEvent, limits: Limits
    ) -> AsyncIterator[Running]:
        stopping = anyio.Event()
        before = server_stopping.set(stopping)  # what the runner runs sees it, and nobody else
        async with open_runner() as runner:
            server_stopping.reset(before)
            dispatcher = Dispatcher(
                service,
                handlers,
                on_event,
                self._codecs,
                middleware=self._middleware,
                guards=self._guards,
                any_service=self._any_service,
                runner=runner,
                limits=limits,
            )
            async with self._transport.listen(address, dispatcher.receive, limits) as listener:
                try:
                    yield _RunningRpcServer(listener, dispatcher, stopping, self._stream_grace)
                finally:
                    stopping.set()
                    dispatcher.draining = dispatcher.ending = True
                    await runner.aclose()  # before the connections, so that what is cancelled is answered


class Dispatcher:
    """Finds what a request is for, and hands it to the runner. Everything in it is synchronous."""

    def __init__(
        self,
        service: str,
        handlers: Mapping[str, Handler],
        on_event: OnEvent,
        codecs: CodecSet,
        *,
        middleware: Sequence[HandlerMiddleware],
        guards: Sequence[Guard],
        runner: Runner,
        any_service: bool = False,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self.service = service
        self._most_calls = limits.calls_in_progress
        self._most_bytes = limits.bytes_in_flight
        self._name = service.encode()
        self._any_service = any_service
        self._handlers = {name.encode(): handler for name, handler in handlers.items()}
        self._on_event = on_event
        self._codecs = codecs
        self._middleware = middleware
        self._guards = guards
        self._runner = runner
        self._short_cuts: dict[tuple[bytes, bytes, bytes], HandlerCoding] = {}
        self._codings: dict[tuple[bytes, bytes, bytes], HandlerCoding] = {}
        self.now = clock()
        self.draining = self.ending = False
        self.open_streams: set[StreamExchange] = set()
        self.in_flight = self.bytes_in_flight = 0
        self.on_idle: Callable[[], None] | None = None

    def receive(self, request: Request) -> None:
        """Take a request from the transport: every way to a handler leads through here, and past the guards.

        A known request head is the short cut of calls that name this service, where there are no guards.
        """
        headers, stream = request.headers, request.stream
        if self.ending:
            self._leave(request)
            return
        if stream is not None and headers.get(b"Micro-Error") == EOS:
            self._start(LeftStream(self, request, stream))
            return
        get = headers.get
        coding = self._short_cuts.get(
            (get(b"Micro-Endpoint", b""), get(b"Content-Type", b""), get(b"Micro-Service", b""))
        )
        if coding is None or self.draining or b"Micro-Topic" in headers or b"X-Micro-Topic" in headers:
            try:
                coding = self._admit(request)
            except MicroError as error:
                self.refuse(request, error)
                return
            if coding is None:
                return
        size = 0 if stream is not None else len(request.body)
        if self._is_full(size) and not coding.handler.internal:
            self.refuse(request, self._crowded())
            return
        deadline = latest = math.inf
        timeout = headers.get(b"Timeout")
        if timeout is not None:
            seconds = seconds_from_wire(timeout)
            arrived = self.now() if request.received_at is None else request.received_at
            deadline, latest = arrived + seconds, arrived + seconds * PATIENCE_FOR_TURN
        self.in_flight += 1
        self.bytes_in_flight += size
        if stream is None:
            self._runner.submit(Exchange(self, coding, request, deadline, latest))
        else:
            self._runner.submit(StreamExchange(self, coding, request, stream, deadline, latest, self.open_streams))

    def refuse(self, request: Request, error: MicroError) -> None:
        """Answer an error, and handle nothing."""
        content_type, _ = content_type_of(request)
        framing = self._codecs.framing(content_type.decode("latin-1"))
        if request.stream is None:
            refuse(self, request, error, framing)
        else:
            self._start(RefusedStream(self, request, request.stream, error, framing))

    def _leave(self, request: Request) -> None:
        """Refuse a call that comes when nothing is run any more; a stream is told by the end of its connection."""
        if request.stream is None:
            self.refuse(request, self._is_stopping())

    def _is_stopping(self) -> MicroError:
        return Timeout(f"{self.service} is stopping: try another node")

    def finished(self, size: int = 0) -> None:
        """Count down a request, and the bytes that were counted for it."""
        self.in_flight -= 1
        self.bytes_in_flight -= size
        if self.in_flight == 0 and self.on_idle is not None:
            self.on_idle()

    def _start(self, job: Job) -> None:
        self.in_flight += 1
        self._runner.submit(job)

    def _admit(self, request: Request) -> HandlerCoding | None:
        """Return the coding of a request; None where it was an event, which is under way by then.

        Raises what the guards raise, and `NotFound`, `BadRequest` and `Timeout` for requests that cannot be handled.
        """
        purpose = purpose_of(request, self._codecs)
        if purpose.service and purpose.service != self._name and not self._any_service:
            meant = purpose.service.decode("utf-8", "replace")[:200]
            raise NotFound(f"here is {self.service}, not {meant!r}: look for its address again")
        if self._guards:
            ask(self._guards, self.service, request, purpose)
        if self.draining:
            raise self._is_stopping()
        if purpose.topic:
            if self._is_full(len(request.body)):
                raise self._crowded()
            self.bytes_in_flight += len(request.body)
            self._start(EventExchange(self, self._on_event, purpose.topic, request))
            return None
        handler = self._handlers.get(purpose.endpoint)
        if handler is None:
            raise self._unknown(purpose.endpoint)
        if request.stream is None and handler.kind is not HandlerKind.UNARY:
            raise BadRequest(f"{handler.name} is a {handler.kind} endpoint: open it as a stream")
        return self._coding(request, handler, purpose)

    def _coding(self, request: Request, handler: Handler, purpose: Purpose) -> HandlerCoding:
        """Return how a handler is called, and keep it where the next request like this one need not be looked at."""
        content_type = purpose.content_type
        asked = asked_in(request.headers) or content_type
        known = self._codings.get((purpose.endpoint, content_type, asked))
        if known is None:
            known = handler_coding(handler, content_type.decode("latin-1"), asked, self._codecs, self._middleware)
            self._codings[purpose.endpoint, content_type, asked] = known
        get = request.headers.get
        by_its_head = purpose.endpoint == get(b"Micro-Endpoint") and self._name == get(b"Micro-Service")
        if by_its_head and content_type == asked and handler.kind is HandlerKind.UNARY and not self._guards:
            self._short_cuts[purpose.endpoint, content_type, self._name] = known
        return known

    def _is_full(self, size: int) -> bool:
        return self.in_flight >= self._most_calls or self.bytes_in_flight + size > self._most_bytes

    def _crowded(self) -> MicroError:
        full = f"{self.in_flight} calls in progress, of {self.bytes_in_flight} bytes"
        return Unavailable(f"{self.service} has {full}, and takes no more: try another node")

    def _unknown(self, endpoint: bytes) -> MicroError:
        name = endpoint.decode("utf-8", "replace")
        if not name:
            return BadRequest("the request names no endpoint: send the header Micro-Endpoint: Type.Method")
        if name.count(".") != 1:
            return BadRequest(f"endpoint {name[:200]!r} is not of the form 'Type.Method'")
        listed = sorted(handler.name for handler in self._handlers.values() if not handler.internal)
        return NotFound(f"{self.service} has no endpoint {name[:200]!r}; it has: {', '.join(listed[:50]) or 'none'}")


class _RunningRpcServer(Running):
    """A listener and what is under way behind it."""

    def __init__(self, listener: Listener, dispatcher: Dispatcher, stopping: anyio.Event, stream_grace: float) -> None:
        self._listener = listener
        self._dispatcher = dispatcher
        self._stopping = stopping
        self._stream_grace = stream_grace

    def __repr__(self) -> str:
        state = "draining" if self._dispatcher.draining else "serving"
        return f"<RpcServer {self._dispatcher.service} at {self.address} {state}, {self.in_flight} in flight>"

    @property
    def address(self) -> str:
        return self._listener.address

    @property
    def in_flight(self) -> int:
        return self._dispatcher.in_flight

    async def drain(self) -> None:
        dispatcher = self._dispatcher
        dispatcher.draining = True
        self._stopping.set()
        await self._listener.stop_accepting()
        if not dispatcher.in_flight:
            return
        idle = anyio.Event()
        dispatcher.on_idle = idle.set
        with anyio.move_on_after(self._stream_grace):
            await idle.wait()
        for stream in tuple(dispatcher.open_streams):
            stream.stop()
        await idle.wait()


def seconds_from_wire(timeout: bytes) -> float:
    """Return a ``Timeout`` header, decimal nanoseconds, in seconds; a malformed one is ignored (docs/wire.md §3.3)."""
    if not timeout.isdigit() or len(timeout) > 19:
        return math.inf
    return int(timeout) / 1e9
