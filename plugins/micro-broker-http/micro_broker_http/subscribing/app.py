"""What takes messages, as ASGI: Go Micro's two forms and our batches (docs/wire.md §4.2, docs/protocol.md §7)."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

import anyio
from msgspec.structs import replace

from micro_broker_http.subscribing.inbox import Inbox, Ticket
from micro_broker_http.subscribing.recipients import Recipients, find_recipients
from micro_broker_http.wire.batch import ACKS_TYPE, BATCH_TYPE, PATH, again_line, decode_batch
from micro_broker_http.wire.envelope import decode_envelope
from micro_core import Context, DecodeError, Delivery, LimitExceeded, Message, MicroError, Timeout
from micro_core.address import join_address
from micro_core.message import canonical
from micro_core.middleware import Guard

__all__ = ["BrokerApp"]

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
HEARTBEAT = 5.0
"""Seconds between the signs of life in an answer."""
GATHER = 0.005
"""Seconds that acknowledgements wait for company."""
BODY_TIME = 30.0
"""Seconds between two pieces of a request's body."""
log = logging.getLogger("micro.broker.http")


class BrokerApp:
    """Gives what is posted to the inboxes of the subscriptions, and answers when it has been handled."""

    def __init__(self, *, body_limit: int = 4 << 20, guards: Sequence[Guard] = ()) -> None:
        self.inboxes: dict[str, Inbox] = {}
        self._body_limit = body_limit
        self._guards = tuple(guards)

    def called_by(self, peer: tuple[str, ...]) -> Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]:
        """Return the application for one connection, whose caller was verified by these names."""

        async def serve(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
            await self(scope, receive, send, peer)

        return serve

    async def __call__(
        self, scope: Mapping[str, Any], receive: Receive, send: Send, peer: tuple[str, ...] = ()
    ) -> None:
        """Serve one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send, peer)
        else:
            await receive()
            await send({"type": "websocket.close"})

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, send: Send, peer: tuple[str, ...]) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        to = find_recipients(self.inboxes, scope["query_string"])
        refusal = self._refusal(scope, headers, to, peer)
        if refusal is not None:
            if scope["http_version"] == "2":
                await self._pass_over(headers, receive)
            return await _answer(send, *refusal, close=refusal[0] != 405)
        path = scope["path"]
        try:
            body = await self._read(headers, receive)
        except LimitExceeded as error:
            return await _refuse(send, 413, str(error))
        except Timeout as error:
            return await _refuse(send, 408, str(error))
        if body is None:
            return None
        serve = self._serve_batch if path == PATH else self._serve_envelope
        return await serve(to, headers, body, peer, receive, send)

    def _refusal(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], to: Recipients | None, peer: tuple[str, ...]
    ) -> tuple[int, bytes, bytes] | None:
        """Return what is wrong with a request before its body was read: status, content type and text."""
        if b"transfer-encoding" in headers and b"content-length" in headers:
            return 400, TEXT, b"both Content-Length and Transfer-Encoding"
        if scope["path"] not in ("/", "/_sub", PATH):
            return 404, TEXT, b"there is nothing at this path"
        if scope["method"] != "POST":
            return 405, JSON, _go_error(400, "Method not allowed")
        try:
            self._check(scope, headers, to, peer)
        except MicroError as error:
            return error.code, TEXT, error.detail.encode()
        return None

    async def _pass_over(self, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        """Read a body that nobody wants: hypercorn takes no more of one whose HTTP/2 stream was answered."""
        try:
            await self._read(headers, receive)
        except (LimitExceeded, Timeout):
            pass

    def _check(
        self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], to: Recipients | None, peer: tuple[str, ...]
    ) -> None:
        """Ask the guards about a request whose body was not read yet. Raises what they raise."""
        if not self._guards:
            return
        host, port = (scope.get("client") or ("", 0))[:2]
        context = Context(
            {canonical(name.decode("latin-1")).encode("latin-1"): value for name, value in headers.items()},
            endpoint="" if to is None else to.topic,
            remote=join_address(host, port),
            peer=peer,
        )
        for guard in self._guards:
            guard(context)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """Return the body, or None when the peer went away. Raises `LimitExceeded`, `Timeout`."""
        too_large = LimitExceeded(f"the body is larger than {self._body_limit} bytes")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._body_limit:
            raise too_large
        body = bytearray()
        more = True
        while more:
            with anyio.move_on_after(BODY_TIME) as patience:
                event = await receive()
            if patience.cancelled_caught:
                raise Timeout("the body did not come in time")
            if event["type"] == "http.disconnect":
                return None
            body += event.get("body", b"")
            more = event.get("more_body", False)
            if len(body) > self._body_limit:
                raise too_large
        return bytes(body)

    async def _serve_envelope(
        self,
        to: Recipients | None,
        headers: Mapping[bytes, bytes],
        body: bytes,
        peer: tuple[str, ...],
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve Go's form: 200 once the message was read and handled, if anybody wanted it.

        That answers a Go peer. One that takes acknowledgements hears of a message that was not handled.
        """
        candid = ACKS_TYPE in headers.get(b"accept", b"")
        try:
            topic, message = decode_envelope(body)
        except DecodeError as error:
            return await _answer(send, 500, JSON, _go_error(500, str(error)))
        if to is None or to.topic != topic or to.leaving:
            if candid:
                return await _refuse(send, 404, "there is no such subscription here", close=False)
            return await _answer(send, 200, b"", b"")
        if to.full:
            return await _refuse(send, 503, "too much is waiting")
        message.peer = peer
        _identify(message.headers, headers)
        message.delivery = Delivery(id=message.headers.get(b"Micro-Id", b"").decode("latin-1") or secrets.token_hex(8))
        if not await _handle(to, message) and candid:
            return await _refuse(send, 500, "the message was not handled", close=False)
        return await _answer(send, 200, b"", b"")

    async def _serve_batch(
        self,
        to: Recipients | None,
        headers: Mapping[bytes, bytes],
        body: bytes,
        peer: tuple[str, ...],
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve a peer of ours: acknowledge line by line."""
        if headers.get(b"content-type") != BATCH_TYPE:
            return await _refuse(send, 415, f"this listener takes {BATCH_TYPE.decode()}")
        if to is None or to.leaving:
            return await _refuse(send, 404, "the subscription is gone", close=False)
        if to.full:
            return await _refuse(send, 503, "too much is waiting", close=False)
        try:
            batch = decode_batch(body)
        except DecodeError as error:
            return await _refuse(send, 400, str(error), close=False)
        publisher = batch.publisher.hex()
        for item in batch.items:
            _identify(item.headers, headers)
        ticket = to.take(
            [
                (
                    (batch.publisher, item.number),
                    Message(item.headers, item.body, peer, item.delivery(publisher)),
                )
                for item in batch.items
            ]
        )
        try:
            await _acknowledge(ticket, to, receive, send)
        finally:
            to.release(ticket)
        return None


def _identify(message: dict[bytes, bytes], post: Mapping[bytes, bytes]) -> None:
    """Let who posts a message that says nothing of its publisher be the publisher: guards are asked about both."""
    if b"authorization" in post:
        message.setdefault(b"Authorization", post[b"authorization"])


async def _handle(to: Recipients, message: Message) -> bool:
    """Have a message handled, here again where need be: Go cannot be asked to send it again. Return whether it was."""
    while not to.leaving:
        ticket = to.take([(None, message)])
        try:
            while not (ticket.settled or to.ended):
                await ticket.changed()
        finally:
            to.release(ticket)
        again = ticket.again(0, 1).get(0) if ticket.complete else None
        if again is None:
            return ticket.complete and not ticket.given_up(0, 1)
        if message.delivery:
            message.delivery = replace(message.delivery, attempt=again.attempt, redelivered=True)
        await anyio.sleep(again.after)
    return False


async def _acknowledge(ticket: Ticket, to: Recipients, receive: Receive, send: Send) -> None:
    """Write the answer to a batch until everything is acknowledged, a subscription is left, or the peer is gone."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", ACKS_TYPE)]})
    said, room = 0, False
    async with anyio.create_task_group() as group:
        group.start_soon(_watch_for_the_end, ticket, receive)
        while await _something_to_say(ticket, to):
            count = ticket.acknowledged()
            lines = _lines(ticket, said, count)
            if to.room and (count > said or not room):
                lines += b"+\n"
            said, room = count, to.room
            await send({"type": "http.response.body", "body": lines or b"\n", "more_body": True})
        group.cancel_scope.cancel()
    # Outside of the group: the server must not be cancelled while it gets a connection ready for its next request.
    count = ticket.acknowledged()
    farewell = b"-\n" if to.leaving else b""
    await send({"type": "http.response.body", "body": _lines(ticket, said, count) + farewell})


def _lines(ticket: Ticket, said: int, count: int) -> bytes:
    """Return the lines that acknowledge what came after what was said."""
    given_up = [b"!%d\n" % (index + 1) for index in ticket.given_up(said, count)]
    again = [again_line(index + 1, again) for index, again in ticket.again(said, count).items()]
    return b"".join([*given_up, *again, b"%d\n" % count]) if count > said else b""


async def _watch_for_the_end(ticket: Ticket, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ticket.abandon()


async def _something_to_say(ticket: Ticket, to: Recipients) -> bool:
    """Wait for acknowledgements, gathering some, or until a sign of life is due; return whether the answer goes on."""
    with anyio.move_on_after(HEARTBEAT):
        if not (ticket.settled or to.ended):
            await ticket.changed()
        with anyio.move_on_after(GATHER):
            while not (ticket.settled or to.ended):
                await ticket.changed()
    return not (ticket.settled or to.ended)


async def _live(receive: Receive, send: Send) -> None:
    """Follow the server's life; there is nothing to prepare."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


def _go_error(code: int, detail: str) -> bytes:
    """Return an error as Go Micro writes it (docs/wire.md §3.9)."""
    status = {400: "Bad Request", 500: "Internal Server Error"}[code]
    return json.dumps({"id": "go.micro.broker", "code": code, "detail": detail, "status": status}).encode()


async def _refuse(send: Send, status: int, text: str, *, close: bool = True) -> None:
    await _answer(send, status, TEXT, text.encode(), close=close)


async def _answer(send: Send, status: int, content_type: bytes, body: bytes, *, close: bool = False) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    if content_type:
        headers.append((b"content-type", content_type))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
