"""The client ``rpc``: Go Micro's calls with deadlines, choice of node and retries (docs/wire.md §3, docs/client.md)."""

from __future__ import annotations

import itertools
import logging
import math
import random as _random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self, cast

import anyio

from micro_core._calling.attempts import AttemptRules, Attempts, TargetedAttempt
from micro_core._calling.call_coding import FADING, CallCoding, FramedHead, call_coding
from micro_core._calling.discovery import Discovery
from micro_core._calling.hedging import first_answer
from micro_core._calling.nodes import NodeList, Target
from micro_core._calling.retry import Budget
from micro_core._plugins.build import build
from micro_core._runtime.runner import clock, effective_deadline
from micro_core._wire.codec_set import CodecSet
from micro_core._wire.errors import error_from_wire
from micro_core.builtin.rpc.client_stream import RpcStream, StreamLife
from micro_core.client import Attempt, Call, Caller, ClientDefaults, ClientStream
from micro_core.codec import Codec
from micro_core.context import current_context, propagated
from micro_core.errors import (
    BadRequest,
    Closed,
    ConfigError,
    ConnectFailed,
    Executed,
    MicroError,
    ProtocolError,
    Timeout,
)
from micro_core.hookspecs import hookimpl
from micro_core.message import Headers, Message, canonical
from micro_core.middleware import AttemptNext, CallMiddleware, fold
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.tasks import OwnedTasks
from micro_core.transport import Head, Transport

__all__ = ["RpcClient"]

log = logging.getLogger("micro.client")

PROBE_SECONDS = 1.0
"""Seconds that an ejected node may take to answer a probe."""
CLOCK_SECONDS = 0.05
"""Seconds by which two timers that are due at the same moment may fire apart."""
CODINGS_KEPT = 4096
"""Endpoints whose coding is cached; a gateway that calls whatever it is told to would fill memory."""


SET_BY_THE_CLIENT = frozenset(
    b"Accept Connection Content-Length Content-Type Host Micro-Cancel Micro-Endpoint Micro-Error Micro-Id Micro-Method "
    b"Micro-Service Micro-Stream Micro-Topic Timeout Transfer-Encoding Upgrade".split()
)
"""Headers that metadata of a call cannot set (docs/wire.md §3.1)."""


@hookimpl
def make_client(
    options: Mapping[str, str],
    registry: Registry,
    selector: Selector,
    transport: Transport,
    codecs: Sequence[Codec],
    middleware: Sequence[CallMiddleware],
    defaults: ClientDefaults,
) -> Caller:
    return build(
        RpcClient,
        options,
        registry=registry,
        selector=selector,
        transport=transport,
        codecs=codecs,
        middleware=middleware,
        defaults=defaults,
    )


class RpcClient(Caller):
    """Calls over any transport.

    ``attempt_timeout`` is seconds that an attempt gets where another may follow, ``lookup_timeout`` those that a call
    waits for the first node of a service whose registry has none; ``aperture`` says how many nodes of a service are
    used at a time, 0 for all. Raises `ConfigError` for what cannot be meant.
    """

    name = "rpc"

    def __init__(
        self,
        *,
        registry: Registry,
        selector: Selector,
        transport: Transport,
        codecs: Sequence[Codec],
        middleware: Sequence[CallMiddleware] = (),
        defaults: ClientDefaults | None = None,
        attempt_timeout: float = 1.0,
        lookup_timeout: float = 1.0,
        aperture: int = 0,
        random: Callable[[], float] = _random.random,
    ) -> None:
        for name, seconds in (("attempt_timeout", attempt_timeout), ("lookup_timeout", lookup_timeout)):
            if not seconds > 0:
                raise ConfigError(f"{name}={seconds!r} is not valid: seconds, more than 0")
        if aperture < 0:
            raise ConfigError(f"aperture={aperture!r} is not valid: how many nodes to use at a time, 0 for all")
        self._selector = selector
        self._codecs = CodecSet(codecs)
        self._defaults = defaults or ClientDefaults()
        self._proxy, self._proxy_address = self._defaults.proxy, self._defaults.proxy_address
        self._attempt_timeout = attempt_timeout
        self._random = random
        self._discovery = Discovery(registry, transport.connect, random, lookup_timeout, aperture)
        self._send: AttemptNext = fold(cast(AttemptNext, self._send_once), middleware)
        self._codings: dict[Any, CallCoding] = {}
        self._ids = itertools.count(1)
        self._opened = AsyncExitStack()
        self._propagate = propagated(self._defaults.propagate)
        self._from_service = {b"Micro-From-Service": self._defaults.service.encode()} if self._defaults.service else {}
        self._open = False

    def __repr__(self) -> str:
        return f"<RpcClient {'open' if self._open else 'closed'}, {len(self._discovery.known)} services known>"

    async def __aenter__(self) -> Self:
        self._now = clock()
        self._effective_deadline = effective_deadline()
        self._budget = Budget(self._now)
        defaults = self._defaults
        self._rules = AttemptRules(
            discovery=self._discovery,
            selector=self._selector,
            budget=self._budget,
            retries=defaults.retries,
            attempt_timeout=self._attempt_timeout,
            now=self._now,
            random=self._random,
            probe=self._start_probe,
            service=defaults.proxy,
            follows_registry=not (defaults.proxy or defaults.proxy_address),
        )
        await self._opened.enter_async_context(self._discovery)
        self._tasks = await self._opened.enter_async_context(OwnedTasks())
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self._open = False
        await self._opened.aclose()

    async def call(self, call: Call) -> Any:
        options, now = call.options, self._now()
        deadline, metadata = self._bounds(call, now, self._defaults.timeout)
        coding = self._coding(call)
        nodes = self._known(call)
        if nodes is None:
            nodes, now = await self._find(call, deadline), self._now()
        body = b"" if call.request is None else coding.encode(call.request)  # docs/wire.md §3.3
        idempotent = call.endpoint in nodes.idempotent if options.idempotent is None else options.idempotent
        self._budget.earn()
        attempts = Attempts(self._rules, call, nodes, now, deadline, metadata, coding, body, idempotent)
        try:
            if options.hedge_after is None or not idempotent:
                return await self._make(attempts)
            return await self._make_hedged(attempts, options.hedge_after)
        except Timeout:
            if self._effective_deadline() <= self._now() + CLOCK_SECONDS:
                await anyio.sleep(CLOCK_SECONDS)  # the caller's scope is due as well, and says it in its own way
            raise

    async def open(self, call: Call) -> ClientStream[Any]:
        now, patience = self._now(), call.options.open_timeout
        ends, metadata = self._bounds(call, now, math.inf)
        deadline = min(ends, now + (self._defaults.timeout if patience is None else patience))
        coding = self._coding(call)
        nodes = self._known(call)
        if nodes is None:
            nodes, now = await self._find(call, deadline), self._now()
        self._budget.earn()
        attempts = Attempts(self._rules, call, nodes, now, deadline, metadata, coding, b"", False)
        attempts.stream_deadline = ends
        stream: ClientStream[Any] = await self._make(attempts)
        return stream

    def _bounds(self, call: Call, now: float, timeout: float) -> tuple[float, dict[str, str]]:
        """Return until when a call may take, and the metadata that goes with it."""
        if not self._open:
            raise Closed("the client is not open: use it in `async with`")
        if call.options.timeout is not None:
            timeout = call.options.timeout
        deadline = min(now + timeout, self._effective_deadline())
        context = current_context()
        if context is None:
            return deadline, call.metadata
        return min(deadline, context.deadline), self._carried_on(context.headers, context.propagated, call)

    def _coding(self, call: Call) -> CallCoding:
        """Return how a call's values are coded."""
        key = (call.service, call.endpoint, call.request_type, call.response_type, call.options.content_type)
        coding = self._codings.get(key)
        if coding is None:
            if len(self._codings) >= CODINGS_KEPT:
                self._codings.clear()
            coding = self._codings[key] = call_coding(call, self._codecs, self._from_service)
        return coding

    def _known(self, call: Call) -> NodeList | None:
        """Return the nodes that a call can go to, if they need not be found first."""
        options = call.options
        address = options.address or self._proxy_address
        if address:
            return self._discovery.at_address(address)
        nodes = self._discovery.known.get(self._proxy or call.service)
        if options.filters and nodes is not None and not nodes.synced:
            return None  # filters judge the whole list
        return nodes

    async def _find(self, call: Call, deadline: float) -> NodeList:
        service, options = self._proxy or call.service, call.options
        return await self._discovery.find(
            service, deadline, whole=bool(options.filters), wait_for_ready=options.wait_for_ready
        )

    def _carried_on(self, headers: Mapping[bytes, bytes], marked: Headers | None, call: Call) -> dict[str, str]:
        """Return a call's metadata and, of the request that is being handled, what is to go with it."""
        metadata = call.metadata.copy()
        for name in self._propagate:
            value = headers.get(name)
            if value is not None:
                metadata.setdefault(name.decode(), value.decode("utf-8", "replace"))
        for name, value in (marked or {}).items():
            metadata.setdefault(name.decode(), value.decode("utf-8", "replace"))
        return metadata

    async def _make(self, attempts: Attempts) -> Any:
        """Make a call, at other nodes again where that is right."""
        try:
            while True:
                attempt = attempts.next()
                try:
                    return await self._send(attempt)
                except MicroError as error:
                    attempts.failed(attempt, error)
                if attempts.has_nowhere_to_go:
                    await attempts.look_again()
                elif attempts.pause:
                    await anyio.sleep(attempts.pause)
        finally:
            if attempts.has_token:
                attempts.give_back_token()

    async def _make_hedged(self, attempts: Attempts, after: float) -> Any:
        """Make a call and, where it takes longer than ``after`` seconds, at a second node as well."""

        async def hedge() -> Any:
            attempt = attempts.hedge()
            try:
                answer = await self._send(attempt)
            except MicroError as error:
                attempts.hedge_failed(attempt, error)
                raise
            attempts.hedge_won()
            return answer

        try:
            return await first_answer(partial(self._make, attempts), hedge, after)
        except MicroError as error:
            if attempts.may_have_been_executed:
                error.executed = Executed.MAYBE
            raise

    def _start_probe(self, nodes: NodeList, target: Target) -> None:
        self._tasks.start_soon(self._probe, nodes, target)

    async def _probe(self, nodes: NodeList, target: Target) -> None:
        """Probe an ejected node (half-open): any answer brings it back, and no call is risked for it."""
        call, now = Call(nodes.service, "Debug.Health", None, Any), self._now()
        deadline = now + PROBE_SECONDS
        attempts = Attempts(self._rules, call, nodes, now, deadline, {}, self._coding(call), b"", False)
        attempt = TargetedAttempt(attempts, target, 0, deadline, {})
        try:
            await self._send(attempt)
        except MicroError as error:
            attempts.ended(attempt, error)
            log.debug("probing %s at %s: %s", nodes.service, target.node.address, error)
        finally:
            nodes.release(target, self._now())

    async def _send_once(self, attempt: TargetedAttempt) -> Any:
        """Make one attempt, and let node list and selector know how it went."""
        call, attempts, target, selector = attempt.call, attempt.attempts, attempt.target, self._selector
        coding = attempts.coding
        started = self._now()
        if selector.feedback:
            selector.started(target.node)
        ok, is_open = True, False
        try:
            if call.streaming:
                stream = await self._open_once(attempt, coding, started)
                is_open = True
                return stream
            head = target.heads.get(coding)
            if head is None:
                head = target.heads[coding] = coding.head(target.node)
            id = next(self._ids)
            headers, body, framing = self._headers(attempt, attempt.deadline, started), attempts.request, head.framing
            if framing is not None:
                body = framing.pack_request(call.endpoint, id, body)
            reply = await attempt.channel.call(head, id, headers, body, attempt.deadline)
            if reply.headers.get(b"Content-Type") != head.content_type:
                self._check_coding(reply, target)
        except Closed as error:
            ok = False
            raise ConnectFailed(f"{target.node.address} left before the call was sent") from error
        except MicroError as error:
            ok = not attempts.count_against(attempt, error, started)
            raise
        finally:
            if selector.feedback and not is_open:
                selector.finished(target.node, self._now() - started, ok)
        target.answered = now = self._now()
        if (seconds := now - started) > coding.slowest:
            coding.slowest = seconds
        else:
            coding.slowest *= FADING
        if target.health.failures or target.health.ejections:
            attempts.nodes.succeeded(target)
        return self._read(call, coding, head, reply)

    def _check_coding(self, reply: Message, target: Target) -> None:
        """Raise `ProtocolError` for a reply of a content type that no service has: whoever sent it is none.

        Raises `BadRequest` where it says that the request's is unknown there.
        """
        headers = reply.headers
        said = headers.get(b"Content-Type")
        if not said or not reply.body or headers.get(b"Micro-Error"):
            return
        if said == b"text/plain" and reply.body[:24].lower() == b"unsupported content-type":  # a Go Micro server's
            raise BadRequest(reply.body.decode("utf-8", "replace")[:200], executed=Executed.NO)
        content_type = said.partition(b";")[0].strip().lower().decode("latin-1")
        if not self._codecs.supports_content_type(content_type):
            raise ProtocolError(
                f"{target.node.address} answered {content_type[:100]!r}, which is no reply of a service",
                executed=Executed.MAYBE,
            )

    def _headers(self, attempt: Attempt, deadline: float, now: float) -> Headers:
        headers: Headers = {}
        if deadline != math.inf:
            left = max(deadline - now, 0.0)  # in a cancelled scope the deadline is minus infinity
            headers[b"Timeout"] = b"%d" % int(left * 1e9)  # of an integer: a third of the time
        for name, value in attempt.metadata.items():
            key = canonical(name).encode()
            if key in SET_BY_THE_CLIENT:
                raise BadRequest(f"the header {name!r} is set by the client itself", executed=Executed.NO)
            headers[key] = value.encode()
        return headers

    def _read(self, call: Call, coding: CallCoding, head: FramedHead, reply: Message) -> Any:
        framing = head.framing
        error = reply.headers.get(b"Micro-Error") or reply.headers.get(b"X-Micro-Error")
        body = reply.body
        if framing is not None and body:
            _, body, text = framing.unpack_reply(body)
            if text:
                raise error_from_wire(text, call.options.errors)
        if error:
            raise error_from_wire(error, call.options.errors)
        return coding.decode(body)

    async def _open_once(self, attempt: TargetedAttempt, coding: CallCoding, now: float) -> RpcStream:
        ends = attempt.attempts.stream_deadline
        stream = await attempt.channel.open_stream(attempt.deadline)
        try:
            id = next(self._ids)
            number = b"%d" % id
            constant = coding.head(attempt.node)
            headers = constant.headers | self._headers(attempt, ends, now)
            head = Head(headers | {b"Micro-Id": number, b"Micro-Stream": number})
            opening, framing = coding.opening, constant.framing
            if framing is not None:
                opening = framing.pack_request(attempt.call.endpoint, id, opening)
            with anyio.CancelScope(deadline=attempt.deadline) as scope:
                await stream.send(head, {}, opening)
            if scope.cancelled_caught:
                raise Timeout(f"{attempt.node.address} took no stream in time", executed=Executed.MAYBE)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise
        life = StreamLife(attempt, self._selector, self._now, now)
        return RpcStream(attempt, coding, head, stream, constant.framing, id, life, ends)
