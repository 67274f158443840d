"""What a transport owes its calls and streams where the network fails, as a proxy between both ends has it fail."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from micro_conformance.proxy import Wire
from micro_conformance.suite import SOON, Suite, promise
from micro_conformance.transport_ends import HEAD, HOLD, Ends
from micro_conformance.transport_stream import PLAIN, receive_bodies_until_error
from micro_core import (
    ConnectFailed,
    ConnectionLost,
    Executed,
    Head,
    Headers,
    Limits,
    MicroError,
    Node,
    Timeout,
    Transport,
)

__all__ = ["NetworkPromises"]

BODY = random.Random(3).randbytes(1000)
CUT_AT = (1, 15, 60, 400, 900)
"""Where messages with a body of a thousand bytes are cut: before, in and behind their heads."""
NONSENSE = (b"", b"\0" * 100, b"\xff" * 1000, random.Random(4).randbytes(5000), b"\r\n\r\n" * 50, b"x" * 200_000)


class NetworkPromises(Suite):
    """The part of `TransportConformance` that is about networks which fail."""

    @abstractmethod
    def ends(self, limits: Limits | None = None, *, proxied: bool = False) -> AbstractAsyncContextManager[Ends]:
        """Open a channel and the listener that it leads to, with a proxy between them."""

    @abstractmethod
    def transport(self) -> Transport:
        """Return a new transport, not opened."""

    @abstractmethod
    def node(self, address: str, listening: Transport) -> Node:
        """Return the node that listens on ``address``."""

    # Refused, cut

    @promise(needs="network")
    async def test_a_refused_connect_is_connect_failed_until_connects_are_taken_again(self) -> None:
        async with self.ends(proxied=True) as ends:
            ends.proxy.refuse()
            for _ in range(2):
                with pytest.raises(ConnectFailed) as raised:
                    await ends.call()
                assert raised.value.executed is Executed.NO
            ends.proxy.restore()
            assert (await ends.call(b"again")).body == b"again"

    @promise(needs="network")
    async def test_calls_under_way_on_a_reset_connection_are_all_lost_and_maybe_executed(self) -> None:
        async with self.ends(proxied=True) as ends:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(lost, ends)
                await ends.peer.arrived(20)
                ends.proxy.cut()
            assert (await ends.call(b"again")).body == b"again"

    @promise(needs="network")
    async def test_a_call_whose_connection_ends_in_order_is_lost_and_maybe_executed(self) -> None:
        async with self.ends(proxied=True) as ends:
            for number, both_ways in enumerate((True, False)):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(lost, ends)
                    await ends.peer.arrived(number + 1)
                    if both_ways:
                        ends.proxy.cut(reset=False)
                    else:
                        ends.proxy.half_close()

    @promise(needs="network")
    async def test_a_call_whose_callers_connection_is_reset_is_abandoned(self) -> None:
        async with self.ends(proxied=True) as ends, anyio.create_task_group() as tasks:
            tasks.start_soon(attempted, ends, HOLD)
            request = await ends.peer.arrived()
            ends.proxy.cut()
            assert await ends.peer.gave_up() is request

    @promise(needs="network")
    async def test_an_idle_connection_that_was_ended_costs_no_call(self) -> None:
        async with self.ends(proxied=True) as ends:
            for reset in (True, False):
                await ends.call()
                ends.proxy.cut(reset=reset)
                await anyio.sleep(0.1)
                assert (await ends.call(b"next")).body == b"next"

    # Half a message

    @promise(needs="network")
    async def test_half_a_reply_is_an_error_and_maybe_executed(self) -> None:
        async with self.ends(proxied=True) as ends:
            await ends.call()
            for count in CUT_AT:
                ends.proxy.downstream = Wire(truncate=count)
                with pytest.raises(MicroError) as raised:
                    await ends.call(BODY)
                assert raised.value.executed is Executed.MAYBE
                ends.proxy.restore()
                assert (await ends.call(b"next")).body == b"next"

    @promise(needs="network")
    async def test_half_a_request_is_seen_by_nobody(self) -> None:
        async with self.ends(proxied=True) as ends:
            await ends.call(b"next")
            for count in CUT_AT:
                ends.proxy.upstream = Wire(truncate=count)
                with pytest.raises(MicroError):
                    await ends.call(BODY)
                ends.proxy.restore()
                await ends.call(b"next")
            assert {request.body for request in ends.peer.requests} == {b"next"}

    @promise(needs="network")
    async def test_half_a_message_of_a_stream_is_seen_by_nobody(self) -> None:
        seen: list[bytes] = []
        async with self.ends(proxied=True) as ends:
            for count in CUT_AT:
                here, peer = await ends.open()
                ends.proxy.downstream = Wire(truncate=count)
                with pytest.raises(ConnectionLost):  # noqa: PT012 - either may tell
                    await peer.send(PLAIN, {}, BODY)
                    await receive_bodies_until_error(here, seen)
                await here.aclose()
                await peer.aclose()
                ends.proxy.restore()
        assert seen == []

    @promise(needs="network")
    async def test_a_stream_that_is_reset_is_lost_at_both_ends(self) -> None:
        async with self.ends(proxied=True) as ends:
            for end in await ends.open():
                ends.proxy.cut()
                with pytest.raises(ConnectionLost):
                    await end.receive()
                await end.aclose()

    # Silence

    @promise(needs="network")
    async def test_a_peer_that_accepts_and_says_nothing_is_a_timeout_at_the_deadline(self) -> None:
        async with self.ends(proxied=True) as ends:
            ends.proxy.hang()
            deadline = anyio.current_time() + SOON
            with pytest.raises(Timeout):
                await ends.call(deadline=deadline)
            assert deadline - 0.01 < anyio.current_time() < deadline + self.patience / 2

    @promise(needs="silence")
    async def test_a_connection_that_fell_silent_costs_no_more_than_one_timeout(self) -> None:
        async with self.ends(proxied=True) as ends:
            await ends.call()
            ends.proxy.silence()
            await attempted(ends)
            assert (await ends.call(b"next")).body == b"next"

    @promise(needs="network")
    async def test_closing_waits_for_no_peer_that_is_silent(self) -> None:
        async with self.ends(proxied=True) as ends:
            await ends.call()
            here, peer = await ends.open()
            ends.proxy.hang()
            for closing in (here, peer, ends.here):
                await closing.aclose()

    # A wire that is long, thin, or wrong

    @promise(needs="network")
    async def test_calls_over_a_long_thin_wire_come_right(self) -> None:
        bodies = [b"%d" % number * 300 for number in range(20)]
        replies: list[bytes] = []

        async def call(body: bytes) -> None:
            replies.append((await ends.call(body)).body)

        async with self.ends(proxied=True) as ends:
            ends.proxy.upstream = ends.proxy.downstream = Wire(delay=0.3, rate=50_000)
            async with anyio.create_task_group() as tasks:
                for body in bodies:
                    tasks.start_soon(call, body)
        assert sorted(replies) == sorted(bodies)

    @promise(needs="network")
    async def test_one_wrong_bit_is_an_error_or_a_reply_and_the_next_call_goes_on(self) -> None:
        for outcome, next_reply in await self._with_wrong_bits():
            assert isinstance(outcome, bytes | MicroError), outcome
            assert next_reply == b"next"

    @promise(needs="integrity")
    async def test_one_wrong_bit_is_never_taken_for_right(self) -> None:
        outcomes = [outcome for outcome, _ in await self._with_wrong_bits()]
        assert {outcome for outcome in outcomes if isinstance(outcome, bytes)} <= {BODY}

    async def _with_wrong_bits(self) -> list[tuple[bytes | Exception, bytes]]:
        """Return what became of calls of which one bit was wrong, and the replies to the calls after those."""
        replies: list[tuple[bytes | Exception, bytes]] = []

        async def each(flip: int) -> None:
            async with self.ends(proxied=True) as ends:
                await ends.call(b"next")
                for wires in ((Wire(flip=flip), Wire()), (Wire(), Wire(flip=flip))):
                    ends.proxy.upstream, ends.proxy.downstream = wires
                    taken = await attempted(ends)
                    ends.proxy.restore()
                    ends.proxy.cut()  # what is left over of the wrong message is nobody's
                    await anyio.sleep(0.1)
                    replies.append((taken, (await ends.call(b"next")).body))

        async with anyio.create_task_group() as tasks:
            for flip in random.Random(5).sample(range(8 * 300), 16):
                tasks.start_soon(each, flip)
        return replies

    # Peers that speak something else

    @promise(needs="network")
    async def test_a_peer_that_speaks_nonsense_is_an_error(self) -> None:
        for nonsense in NONSENSE:
            async with self.transport() as here, speaking(nonsense) as address:
                channel = here.connect(self.node(address, here))
                with pytest.raises(MicroError):
                    await channel.call(Head(HEAD), 1, {}, b"", anyio.current_time() + SOON)
                await channel.aclose()

    @promise(needs="network")
    async def test_a_caller_that_speaks_nonsense_disturbs_nobody(self) -> None:
        async with self.ends() as ends:
            for nonsense in NONSENSE:
                async with await connected(ends.listener.address) as stranger:
                    await stranger.send(nonsense)
                    assert (await ends.call(b"next")).body == b"next"
            assert {request.body for request in ends.peer.requests} == {b"next"}

    @promise(needs="network")
    async def test_a_caller_that_says_nothing_is_sent_away(self) -> None:
        async with self.ends(Limits(header_seconds=SOON)) as ends:
            async with await connected(ends.listener.address) as stranger:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):  # noqa: PT012 - after what it says
                    while True:
                        await stranger.receive()


async def lost(ends: Ends) -> None:
    """Make a call that nobody answers, and assert that it is lost."""
    with pytest.raises(ConnectionLost) as raised:
        await ends.call(headers=HOLD)
    assert raised.value.executed is Executed.MAYBE


async def attempted(ends: Ends, headers: Headers | None = None) -> bytes | Exception:
    """Return the body of the reply to a call, or what it raised."""
    try:
        return (await ends.call(BODY, headers, deadline=anyio.current_time() + SOON)).body
    except Exception as error:
        return error


@asynccontextmanager
async def speaking(nonsense: bytes) -> AsyncIterator[str]:
    """Listen, answer the first bytes of each caller with nonsense, and end the connection."""

    async def answer(caller: SocketStream) -> None:
        async with caller:
            try:
                await caller.receive()
                await caller.send(nonsense)
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield f"127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


async def connected(address: str) -> SocketStream:
    """Return a connection that speaks nothing yet."""
    host, _, port = address.rpartition(":")
    return await anyio.connect_tcp(host, int(port))
