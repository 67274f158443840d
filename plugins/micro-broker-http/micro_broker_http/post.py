"""One POST to one subscriber, in the form that it takes, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from urllib.parse import urlencode

import httpx

from micro_broker_http.batch import BATCH_TYPE, PATH, AckReader, encode_batch
from micro_broker_http.envelope import encode_envelope
from micro_broker_http.naming import Subscriber
from micro_broker_http.outbox import Letter
from micro_core import ProtocolError

__all__ = ["Verdict", "post_batch", "post_envelope"]

log = logging.getLogger("micro.broker.http")

_BATCH_HEADERS = {"Content-Type": BATCH_TYPE.decode()}
_ENVELOPE_HEADERS = {"Content-Type": "application/json"}
_BATCH_PATIENCE = httpx.Timeout(5.0, read=15.0, write=15.0)
_ENVELOPE_PATIENCE = httpx.Timeout(5.0, read=60.0, write=15.0)


class Verdict(Enum):
    """What a POST says about the messages that it did not get acknowledged."""

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
    acknowledged: Callable[[int], None],
) -> Verdict:
    """Send a batch; ``acknowledged`` is told how many messages are, each time that it is more (docs/protocol.md §7)."""
    url = f"{to.url}{PATH}?{urlencode({'id': to.id})}"
    body = encode_batch(publisher, [letter.parcel.item for letter in letters])
    reader = AckReader(len(letters))
    try:
        async with client.stream("POST", url, content=body, headers=_BATCH_HEADERS, timeout=_BATCH_PATIENCE) as answer:
            if answer.status_code != 200:
                log.warning("subscriber %s answered a batch with status %d", to.id, answer.status_code)
                return _STATUSES.get(answer.status_code, Verdict.BROKEN)
            async for piece in answer.aiter_raw():
                acknowledged(reader.feed(piece))
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        log.info("subscriber %s cannot be reached at %s: %r", to.id, to.address, error)
        return Verdict.NOT_REACHED
    except (httpx.HTTPError, ProtocolError) as error:
        log.warning("batch of %d to subscriber %s at %s broke: %r", len(letters), to.id, to.address, error)
        return Verdict.DONE if reader.complete else Verdict.BROKEN
    return Verdict.DONE if reader.complete else Verdict.ENDED


async def post_envelope(client: httpx.AsyncClient, to: Subscriber, letter: Letter) -> Verdict:
    """Send a message to a Go peer; as in Go every answer means done, and only a failing connection does not."""
    url = f"{to.url}{to.form.path}?{urlencode({'id': to.id})}"
    body = encode_envelope(letter.parcel.topic, letter.parcel.message, to.form)
    try:
        answer = await client.post(url, content=body, headers=_ENVELOPE_HEADERS, timeout=_ENVELOPE_PATIENCE)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        log.info("subscriber %s at %s did not take a message: %r", to.id, to.address, error)
        return Verdict.NOT_REACHED
    if answer.status_code != 200:
        log.warning("subscriber %s answered a message with status %d", to.id, answer.status_code)
    return Verdict.DONE
