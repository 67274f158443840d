"""The client ``rpc``: Go Micro's calls with deadlines, choice of node and retries (docs/wire.md §3, docs/client.md)."""

from __future__ import annotations

import itertools
import math
import random as _random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from micro_core._calling.discovery import Discovery
from micro_core._calling.nodes import NodeList, Target
from micro_core._calling.retry import Budget, backoff, is_misdirected, may_retry
from micro_core._plugins.build import build
from micro_core._runtime.runner import clock, effective_deadline
from micro_core._wire.codec_set import CodecSet
from micro_core._wire.errors import error_from_wire
from micro_core.builtin.rpc.client_route import FramedHead, Route, route_of
from micro_core.builtin.rpc.client_stream import RpcStream
from micro_core.client import Call, Caller, ClientDefaults, ClientStream
from micro_core.codec import Codec
from micro_core.context import current_context, propagated
from micro_core.errors import (
    BadRequest,
    Closed,
    ConnectFailed,
    ConnectionLost,
    Executed,
    MicroError,
    NoNode,
    NotFound,
    ProtocolError,
    RegistryError,
    Timeout,
)
from micro_core.hookspecs import hookimpl
from micro_core.message import Headers, Message, canonical
from micro_core.middleware import CallMiddleware, fold
from micro_core.registry import Registry
from micro_core.selector import Selector
from micro_core.transport import Head, Transport

__all__ = ["RpcClient"]

CLOCK_SECONDS = 0.05
"""How far apart two timers that are due at one moment may fire."""
ROUTES_KEPT = 4096
"""How many endpoints have their coding kept; a gateway that calls whatever it is told to would fill memory."""


SET_BY_THE_CLIENT = frozenset(
    b"Accept Connection Content-Length Content-Type Host Micro-Cancel Micro-Endpoint Micro-Error Micro-Id Micro-Method "
    b"Micro-Service Micro-Stream Micro-Topic Timeout Transfer-Encoding Upgrade".split()
)
"""What metadata of a call cannot say (docs/wire.md §3.1)."""


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
    """Calls over any transport. ``attempt_timeout`` and ``lookup_timeout`` are seconds."""

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
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._selector = selector
        self._codecs = CodecSet(codecs)
        self._defaults = defaults or ClientDefaults()
        self._attempt_timeout = attempt_timeout
        self._random = random
        self._discovery = Discovery(registry, transport.connect, random, lookup_timeout)
        self._send = fold(self._send_once, middleware)
        self._routes: dict[Any, Route] = {}
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
        await self._opened.enter_async_context(self._discovery)
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
        route, nodes = self._prepare(call, self._defaults.timeout)
        if nodes is None:
            nodes = await self._discovery.find(self._service_of(call), call.deadline, whole=bool(call.options.filters))
        body = b"" if call.request is None else route.encode(call.request)  # docs/wire.md §3.3
        idempotent = call.options.idempotent
        if idempotent is None:
            idempotent = call.endpoint in nodes.idempotent
        self._budget.earn()
        try:
            return await self._attempts(call, nodes, (route, body), idempotent, self._send)
        except Timeout:
            if self._effective_deadline() <= self._now() + CLOCK_SECONDS:
                await anyio.sleep(CLOCK_SECONDS)  # the caller's scope is due as well, and says it in its own way
            raise

    async def open(self, call: Call) -> ClientStream[Any]:
        route, nodes = self._prepare(call, math.inf)
        if nodes is None:
            nodes = await self._discovery.find(self._service_of(call), call.deadline, whole=bool(call.options.filters))
        self._budget.earn()
        stream: ClientStream[Any] = await self._attempts(call, nodes, (route, b""), False, self._send)
        return stream

    def _prepare(self, call: Call, timeout: float) -> tuple[Route, NodeList | None]:
        """Set the call's deadline and headers; return how its values are coded, and the nodes if they are known."""
        if not self._open:
            raise Closed("the client is not open: use it in `async with`")
        options = call.options
        if options.timeout is not None:
            timeout = options.timeout
        deadline = min(self._now() + timeout, self._effective_deadline())
        context = current_context()
        if context is not None:
            deadline = min(deadline, context.deadline)
            self._carry_on(context.headers, context.propagated, call)
        call.deadline = deadline
        key = (call.service, call.endpoint, call.request_type, call.response_type, options.content_type)
        route = self._routes.get(key)
        if route is None:
            if len(self._routes) >= ROUTES_KEPT:
                self._routes.clear()
            route = self._routes[key] = route_of(call, self._codecs, self._from_service)
        address = options.address or self._defaults.proxy_address
        if address:
            return route, self._discovery.at_address(address)
        nodes = self._discovery.known.get(self._service_of(call))
        if options.filters and nodes is not None and not nodes.synced:
            nodes = None  # filters judge the whole list
        return route, nodes

    def _service_of(self, call: Call) -> str:
        return self._defaults.proxy or call.service

    def _carry_on(self, headers: Mapping[bytes, bytes], marked: Headers | None, call: Call) -> None:
        for name in self._propagate:
            value = headers.get(name)
            if value is not None:
                call.metadata.setdefault(name.decode(), value.decode("utf-8", "replace"))
        for name, value in (marked or {}).items():
            call.metadata.setdefault(name.decode(), value.decode("utf-8", "replace"))

    async def _attempts(
        self, call: Call, nodes: NodeList, coded: tuple[Route, bytes], idempotent: bool, send: Callable[[Call], Any]
    ) -> Any:
        """Make the call, at other nodes again where that is right."""
        options, deadline, started = call.options, call.deadline, self._now()
        retries = self._defaults.retries if options.retries is None else options.retries
        attempt_timeout = self._attempt_timeout if options.attempt_timeout is None else options.attempt_timeout
        tried: list[str] = []
        failures: list[str] = []
        maybe, last, misdirected = False, None, False
        while True:
            now = self._now()
            try:
                if misdirected and not nodes:
                    nodes, now = (
                        await self._discovery.find(self._service_of(call), deadline, whole=bool(options.filters)),
                        self._now(),
                    )
                target = self._choose(nodes, call, tried, now)
            except (NoNode, RegistryError, Timeout) as nowhere:
                if last is None:
                    raise
                if not misdirected:
                    raise last from None  # which says more
                raise _placed_as(last, nowhere, f"{last.detail}; {nowhere.detail}") from None
            probing = target.health.probing
            call.node, call.attempt = target.node, len(tried)
            call.state = (coded, nodes, target)
            again = len(tried) < retries and idempotent and (len(nodes) > 1 or options.attempt_timeout is not None)
            call.deadline = min(deadline, now + attempt_timeout) if again else deadline
            try:
                return await send(call)
            except MicroError as error:
                tried.append(target.node.id)
                error.service, error.node, error.attempts = call.service, target.node.address, len(tried)
                if error.executed is Executed.YES:
                    raise
                maybe = maybe or error.executed is Executed.MAYBE
                misdirected = self._note(call, nodes, target, error)
                failures.append(f"{target.node.address} ({self._now() - now:.2f} s): {error.detail}")
                if misdirected:
                    another = retries > 0 and self._now() < deadline
                    retries += another  # which costs no retry, since there is one node less
                else:
                    another = self._another(error, idempotent, tried, nodes, retries, deadline)
                error.detail = self._explain(call, failures, self._now() - started)
                if maybe:
                    error.executed = Executed.MAYBE
                if not another:
                    if misdirected:
                        raise _placed_as(error, NoNode(), error.detail) from error
                    raise
                pause, last = 0.0 if misdirected else backoff(len(tried), self._random), error
            finally:
                if probing:
                    nodes.release(target, self._now())
            if pause:
                await anyio.sleep(min(pause, max(deadline - self._now(), 0.0)))

    def _note(self, call: Call, nodes: NodeList, target: Target, error: MicroError) -> bool:
        """Tell whether another service answered at the node's address, and drop the node if so.

        Who calls an address or through a proxy has chosen it, and is told.
        """
        defaults = self._defaults
        if call.options.address or defaults.proxy_address or defaults.proxy or not is_misdirected(error, call.service):
            return False
        self._discovery.departed(nodes, target)
        return True

    def _another(
        self, error: MicroError, idempotent: bool, tried: list[str], nodes: NodeList, retries: int, deadline: float
    ) -> bool:
        """Tell whether to go on; what was not executed may be tried at every node, the rest as often as configured."""
        if not may_retry(error, idempotent) or self._now() >= deadline or retries == 0 or not nodes:
            return False
        if isinstance(error, NotFound):
            return len(tried) < len(nodes) and len(tried) <= retries and self._budget.spend()
        unexecuted_left = error.executed is Executed.NO and len(tried) < len(nodes)
        return (unexecuted_left or len(tried) <= retries) and self._budget.spend()

    def _explain(self, call: Call, failures: list[str], seconds: float) -> str:
        if len(failures) == 1:
            return f"{call.service} {call.endpoint} at {failures[0]}"
        return (
            f"{call.service} {call.endpoint} failed after {seconds:.2f} s and {len(failures)} attempts: "
            + "; ".join(failures)
        )

    def _choose(self, nodes: NodeList, call: Call, tried: list[str], now: float) -> Target:
        filters = call.options.filters
        candidates = nodes.candidates(filters, now, tried)
        if not candidates:
            raise NoNode(
                f"none of the {len(nodes)} nodes of {call.service!r} fits the call's filters: "
                + ", ".join(map(repr, filters)),
                service=call.service,
            )
        node = candidates[0] if len(candidates) == 1 else self._selector.select(call.service, candidates)
        target = nodes.target(node)
        if target is None:
            raise NoNode(f"the node {node.id} of {call.service!r} has just gone", service=call.service)
        return target

    async def _send_once(self, call: Call) -> Any:
        """Make one attempt, and let node list and selector know how it went."""
        (route, body), nodes, target = call.state
        now = self._now()
        selector = self._selector
        if selector.feedback:
            selector.started(target.node)
        ok = True
        try:
            if call.streaming:
                stream = await self._open_once(call, route, target, now, partial(self._note, call, nodes, target))
                nodes.succeeded(target)
                return stream
            head = target.heads.get(route)
            if head is None:
                head = target.heads[route] = route.head(target.node)
            id = next(self._ids)
            headers = self._headers(call, now)
            framing = head.framing
            if framing is not None:
                body = framing.pack_request(call.endpoint, id, body)
            reply = await target.channel.call(head, id, headers, body, call.deadline)
        except (ConnectFailed, ConnectionLost, ProtocolError) as error:
            ok = False
            nodes.failed(target, refused=isinstance(error, ConnectFailed), now=self._now())
            raise
        except Timeout:
            ok = self._now() - now < min(self._attempt_timeout, call.options.attempt_timeout or math.inf) * 0.9
            if not ok:
                nodes.failed(target, refused=False, now=self._now())
            raise
        finally:
            if selector.feedback:
                selector.finished(target.node, self._now() - now, ok)
        if target.health.failures or target.health.ejections:
            nodes.succeeded(target)
        return self._read(call, route, head, reply)

    def _headers(self, call: Call, now: float) -> Headers:
        headers: Headers = {}
        if call.deadline != math.inf:
            left = max(call.deadline - now, 0.0)  # in a cancelled scope the deadline is minus infinity
            headers[b"Timeout"] = b"%d" % int(left * 1e9)  # of an integer: a third of the time
        for name, value in call.metadata.items():
            key = canonical(name).encode()
            if key in SET_BY_THE_CLIENT:
                raise BadRequest(f"the header {name!r} is set by the client itself", executed=Executed.NO)
            headers[key] = value.encode()
        return headers

    def _read(self, call: Call, route: Route, head: FramedHead, reply: Message) -> Any:
        framing = head.framing
        error = reply.headers.get(b"Micro-Error") or reply.headers.get(b"X-Micro-Error")
        body = reply.body
        if framing is not None and body:
            _, body, text = framing.unpack_reply(body)
            if text:
                raise error_from_wire(text, call.options.errors)
        if error:
            raise error_from_wire(error, call.options.errors)
        if reply.headers.get(b"Content-Type") == b"text/plain" and body[:24].lower() == b"unsupported content-type":
            raise BadRequest(body.decode("utf-8", "replace")[:200], executed=Executed.NO)
        return route.decode(body)

    async def _open_once(
        self, call: Call, route: Route, target: Target, now: float, on_error: Callable[[MicroError], object]
    ) -> RpcStream:
        stream = await target.channel.open_stream(call.deadline)
        try:
            id = next(self._ids)
            number = b"%d" % id
            constant = route.head(target.node)
            headers = constant.headers | self._headers(call, now)
            head = Head(headers | {b"Micro-Id": number, b"Micro-Stream": number})
            opening, framing = route.opening, constant.framing
            if framing is not None:
                opening = framing.pack_request(call.endpoint, id, opening)
            await stream.send(head, {}, opening)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stream.aclose()
            raise
        return RpcStream(call, route, head, stream, constant.framing, id, on_error)


def _placed_as(refused: MicroError, error: MicroError, detail: str) -> MicroError:
    """Return ``error`` about the call that another service refused: its `NotFound` would look like a handler's."""
    error.detail, error.service, error.node = detail, refused.service, refused.node
    error.attempts, error.executed = refused.attempts, refused.executed
    return error
