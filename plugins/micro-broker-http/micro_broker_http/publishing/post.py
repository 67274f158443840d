"""One POST to one subscriber, in the form that it takes, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from enum import Enum, auto
from typing import cast
from urllib.parse import urlencode

import anyio
import httpx

from micro_broker_http.publishing.client import why
from micro_broker_http.publishing.outbox import Letter
from micro_broker_http.wire.batch import ACKS_TYPE, BATCH_TYPE, PATH, AckReader, encode_batch
from micro_broker_http.wire.envelope import encode_envelope
from micro_broker_http.wire.naming import Subscriber
from micro_core import ProtocolError

__all__ = ["Verdict", "post_batch", "post_envelope"]

log = logging.getLogger("micro.broker.http")

_LONGEST_TEXT = 64 << 10
_BATCH_PATIENCE = httpx.Timeout(5.0, read=15.0, write=15.0)
_ENVELOPE_PATIENCE = httpx.Timeout(5.0, read=60.0, write=15.0)


class Verdict(Enum):
    """What a POST says about the messages that it did not get acknowledged."""

    MORE = auto()
    """There may be, but it can have more meanwhile: the answer was broken off."""
    DONE = auto()
    """There are none."""
    ENDED = auto()
    """The subscriber will not handle them: it is leaving, or too much is waiting there."""
    NOT_REACHED = auto()
    """Nobody listens at its address."""
    BROKEN = auto()
    """It may have them, and may handle them yet."""
    GONE = auto()
    """The subscription does not exist any more."""
    REFUSED = auto()
    """It does not take them, however often they are sent."""


_STATUSES = {
    400: Verdict.REFUSED,
    401: Verdict.REFUSED,
    403: Verdict.REFUSED,
    404: Verdict.GONE,
    413: Verdict.REFUSED,
    415: Verdict.REFUSED,
    503: Verdict.ENDED,
}


async def post_batch(
    client: httpx.AsyncClient,
    to: Subscriber,
    publisher: bytes,
    letters: Sequence[Letter],
    acknowledged: Callable[[AckReader], None],
    room: Callable[[], None],
) -> Verdict:
    """Send a batch (docs/protocol.md §7).

    ``acknowledged`` is told what the answer said so far, each time that it may be more; ``room`` is called when the
    subscriber could handle more, after which the call may be cancelled.
    """
    body = encode_batch(publisher, [letter.item() for letter in letters])
    reader = AckReader(len(letters))
    try:
        request = _request(client, to, PATH, BATCH_TYPE.decode(), body, _BATCH_PATIENCE)
        async with _answer(client, request) as answer:
            if answer.status_code != 200:
                status = answer.status_code
                log.warning("subscriber %s at %s answered a batch with status %d", to.id, to.address, status)
                return _STATUSES.get(status, Verdict.BROKEN)
            await _read(answer, reader, acknowledged, room)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        log.info("subscriber %s cannot be reached at %s: %s", to.id, to.address, why(error, client))
        return Verdict.NOT_REACHED
    except (httpx.HTTPError, ProtocolError) as error:
        log.warning("batch of %d to subscriber %s at %s broke: %s", len(letters), to.id, to.address, why(error, client))
        return Verdict.DONE if reader.complete else Verdict.BROKEN
    if reader.left:
        return Verdict.GONE
    return Verdict.DONE if reader.complete else Verdict.ENDED


async def post_envelope(client: httpx.AsyncClient, to: Subscriber, letter: Letter) -> Verdict:
    """Send a message in Go's form, which only status 200 says was handled.

    ``Accept`` tells a peer of ours that is listed as one of Go's to say so where it was not (docs/protocol.md §7).
    """
    body = encode_envelope(letter.parcel.topic, letter.parcel.message, to.form)
    try:
        request = _request(client, to, to.form.path, "application/json", body, _ENVELOPE_PATIENCE)
        request.headers["Accept"] = f"{ACKS_TYPE.decode()}, */*"
        async with _answer(client, request) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.info("subscriber %s at %s did not take a message: %s", to.id, to.address, why(error, client))
        return Verdict.NOT_REACHED
    if status != 200:
        log.warning("subscriber %s at %s answered a message with status %d", to.id, to.address, status)
        return Verdict.REFUSED
    return Verdict.DONE


class _Body(httpx.AsyncByteStream):
    """A request's body; httpx's own is an async generator, which a cancelled request leaves behind."""

    def __init__(self, body: bytes) -> None:
        self._pieces = iter((body,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def _request(
    client: httpx.AsyncClient, to: Subscriber, path: str, content_type: str, body: bytes, patience: httpx.Timeout
) -> httpx.Request:
    url = f"{to.url}{path}?{urlencode(to.query)}"
    headers = {"Content-Type": content_type, "Content-Length": str(len(body))}
    request = client.build_request("POST", url, headers=headers, timeout=patience)
    request.stream = _Body(body)
    return request


@asynccontextmanager
async def _answer(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    """Send a request; an answer that was read to its end leaves the connection for the next request."""
    answer = await client.send(request, stream=True)
    try:
        yield answer
        if not answer.is_stream_consumed:
            await _discard(answer)
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()


async def _read(
    answer: httpx.Response, reader: AckReader, acknowledged: Callable[[AckReader], None], room: Callable[[], None]
) -> None:
    async with aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            reader.feed(piece)
            acknowledged(reader)
            if reader.room:
                room()


async def _discard(answer: httpx.Response) -> None:
    size = 0
    async with aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > _LONGEST_TEXT:
                return


def _pieces(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    return cast("AsyncGenerator[bytes, None]", answer.aiter_raw())
