"""What a caller is told when an answer is no reply, or does not come (docs/protocol.md §3)."""

from __future__ import annotations

from micro_core import (
    BadRequest,
    ConnectFailed,
    ConnectionLost,
    Executed,
    LimitExceeded,
    MicroError,
    ProtocolError,
    Timeout,
)
from micro_transport_http.http1.refusal import Refusal
from micro_transport_http.io.link import Link

__all__ = ["connection_lost", "copied", "refused", "too_late", "unreadable"]


def refused(status: int, body: bytes, address: str) -> MicroError:
    """Return the error for an answer that is no reply."""
    detail = body[:500].decode("utf-8", "replace").strip()
    text = f"{address} refused the message: {status} {detail}"
    if status in (413, 431):
        return LimitExceeded(text, code=status, executed=Executed.NO)
    if status == 400:
        return BadRequest(text, executed=Executed.NO)
    if status == 408:
        return Timeout(text, executed=Executed.NO)
    return ProtocolError(f"{address} gave an answer that is no reply: {status} {detail}", executed=Executed.MAYBE)


def unreadable(refusal: Refusal, address: str) -> MicroError:
    """Return the error for an answer that the parser refused."""
    if refusal.status in (413, 431):
        text = f"the reply of {address} is too large: {refusal.sentence}"
        return LimitExceeded(text, code=refusal.status, executed=Executed.MAYBE)
    return ProtocolError(f"{address} broke the protocol: {refusal.sentence}", executed=Executed.MAYBE)


def connection_lost(link: Link, address: str, what: str) -> MicroError:
    """Return the error for a connection that ended; one that TLS ended has executed nothing."""
    if link.refusal:
        return ConnectFailed(f"cannot connect to {address}: {link.refusal}", node=address)
    return ConnectionLost(what, node=address)


def too_late(address: str) -> Timeout:
    """Return the error for a call whose deadline passed before anything of it was sent."""
    return Timeout(f"the deadline passed before the call to {address} was sent", executed=Executed.NO)


def copied(error: MicroError) -> MicroError:
    """Return an error of its own for each caller: each adds to it what it knows."""
    if isinstance(error, ConnectFailed):
        return ConnectFailed(error.detail, node=error.node)
    if isinstance(error, ConnectionLost):
        return ConnectionLost(error.detail, node=error.node, executed=error.executed)
    return ProtocolError(error.detail, executed=Executed.MAYBE)
