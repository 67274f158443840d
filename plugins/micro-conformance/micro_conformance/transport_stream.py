"""What every transport owes its streams: the promises of `micro_core.transport.Stream`."""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from contextlib import AbstractAsyncContextManager

import anyio
import pytest

from micro_conformance.suite import Suite, promise
from micro_conformance.transport_ends import HEAD, STREAM, Ends
from micro_core import (
    Closed,
    ConnectFailed,
    ConnectionLost,
    Head,
    LimitExceeded,
    Limits,
    Message,
    MicroError,
    ProtocolError,
    Stream,
)

__all__ = ["StreamPromises"]

PLAIN = Head({b"Content-Type": b"application/octet-stream"})


class StreamPromises(Suite):
    """The part of `TransportConformance` that is about streams."""

    @abstractmethod
    def ends(self, limits: Limits | None = None) -> AbstractAsyncContextManager[Ends]:
        """Open a channel and the listener that it leads to."""

    @promise()
    async def test_the_first_message_of_a_stream_is_its_request(self) -> None:
        async with self.ends() as ends:
            stream = await ends.channel.open_stream(math.inf)
            await stream.send(Head(HEAD), {**STREAM, b"Own": b"1"}, b"first")
            request = await ends.peer.arrived()
            await stream.aclose()
        assert request.stream is not None
        assert (request.body, request.headers[b"Own"], request.headers[b"Micro-Stream"]) == (b"first", b"1", b"7")

    @promise()
    async def test_messages_of_a_stream_keep_their_order_both_ways_at_once(self) -> None:
        there: list[bytes] = []
        back: list[bytes] = []
        async with self.ends() as ends:
            here, peer = await ends.open()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_numbers, here)
                tasks.start_soon(send_numbers, peer)
                tasks.start_soon(receive_bodies, peer, there)
                tasks.start_soon(receive_bodies, here, back)
            await here.aclose()
            await peer.aclose()
        assert there == back == [b"%d" % number for number in range(300)]

    @promise()
    async def test_headers_of_a_message_lie_over_its_head(self) -> None:
        head = Head({b"Kept": b"head", b"Covered": b"head"})
        async with self.ends() as ends:
            here, peer = await ends.open()
            await here.send(head, {b"Covered": b"message"}, b"")
            there = await peer.receive()
            await peer.send(head, {b"Covered": b"message"}, b"")
            back = await here.receive()
            await here.aclose()
        for message in (there, back):
            assert (message.headers[b"Kept"], message.headers[b"Covered"]) == (b"head", b"message")

    @promise()
    async def test_empty_and_large_messages_of_a_stream_arrive(self) -> None:
        large = random.Random(2).randbytes(self.largest_body)
        async with self.ends() as ends, anyio.create_task_group() as tasks:
            here, peer = await ends.open()
            for body in (b"", large, b""):
                tasks.start_soon(here.send, PLAIN, {}, body)
                assert (await peer.receive()).body == body
                tasks.start_soon(peer.send, PLAIN, {}, body)
                assert (await here.receive()).body == body
            await here.aclose()

    @promise()
    async def test_a_sender_waits_for_a_slow_listener(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            await sender_waits(here, peer)

    @promise()
    async def test_a_sender_waits_for_a_slow_caller(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            await sender_waits(peer, here)

    @promise()
    async def test_a_stalled_stream_holds_up_no_call(self) -> None:
        async with self.ends() as ends, anyio.create_task_group() as tasks:
            here, _ = await ends.open()
            tasks.start_soon(send_without_end, here, [])
            await anyio.sleep(0.1)
            assert (await ends.call(b"quick")).body == b"quick"
            tasks.cancel_scope.cancel()

    @promise()
    async def test_what_a_caller_sent_before_it_closed_arrives_and_then_connection_lost(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            await sent_before_closing_arrives(here, peer)

    @promise()
    async def test_what_a_listener_sent_before_it_closed_arrives_and_then_connection_lost(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            await sent_before_closing_arrives(peer, here)

    @promise()
    async def test_sending_to_a_peer_that_has_gone_is_connection_lost(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            await peer.aclose()
            with pytest.raises(ConnectionLost):
                await send_without_end(here, [])
            await here.aclose()

    @promise(needs="cancel")
    async def test_a_stream_that_its_caller_leaves_is_abandoned(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            await here.aclose()
            assert (await ends.peer.gave_up()).stream is peer

    @promise()
    async def test_a_listener_that_is_left_loses_its_streams(self) -> None:
        async with self.ends() as ends:
            here, _ = await ends.open()
            await ends.leave()
            with pytest.raises(ConnectionLost):
                await here.receive()
            await here.aclose()

    @promise()
    async def test_a_message_beyond_the_limit_ends_its_stream_unseen(self) -> None:
        seen: list[bytes] = []
        async with self.ends(Limits(body=1000)) as ends:
            here, peer = await ends.open()
            with pytest.raises((ConnectionLost, LimitExceeded, ProtocolError)):  # noqa: PT012 - either may tell
                await here.send(PLAIN, {}, b"x" * 1001)
                await here.receive()
            with pytest.raises((ConnectionLost, ProtocolError)):
                await receive_bodies_until_error(peer, seen)
            await here.aclose()
        assert seen == []

    @promise()
    async def test_a_stream_where_nobody_listens_is_connect_failed(self) -> None:
        async with self.ends() as ends:
            await ends.leave()
            with pytest.raises(ConnectFailed):
                await ends.channel.open_stream(math.inf)

    @promise()
    async def test_a_stream_of_a_closed_channel_is_closed(self) -> None:
        async with self.ends() as ends:
            await ends.channel.aclose()
            with pytest.raises(Closed):
                await ends.channel.open_stream(math.inf)

    @promise()
    async def test_streams_at_once_do_not_mix(self) -> None:
        async with self.ends() as ends:
            pairs = [await ends.open() for _ in range(5)]
            for number, (here, _) in enumerate(pairs):
                await here.send(PLAIN, {}, b"%d" % number)
            for number, (_, peer) in reversed(list(enumerate(pairs))):
                assert (await peer.receive()).body == b"%d" % number
                await peer.send(PLAIN, {}, b"%d back" % number)
            for number, (here, peer) in enumerate(pairs):
                assert (await here.receive()).body == b"%d back" % number
                await here.aclose()
                await peer.aclose()

    @promise()
    async def test_a_receiver_that_is_cancelled_loses_no_message(self) -> None:
        async with self.ends() as ends:
            for here, peer in (await ends.open(), (await ends.open())[::-1]):
                with anyio.move_on_after(0.05):
                    await here.receive()
                await peer.send(PLAIN, {}, b"late")
                assert (await here.receive()).body == b"late"
                await here.aclose()
                await peer.aclose()

    @promise()
    async def test_closing_the_transport_ends_its_streams(self) -> None:
        async with self.ends() as ends:
            here, peer = await ends.open()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ended, here)
                tasks.start_soon(ended, peer)
                await anyio.sleep(0.05)
                await ends.here.aclose()

    @promise()
    async def test_a_stream_that_was_closed_is_used_no_more(self) -> None:
        async with self.ends() as ends:
            for end in await ends.open():
                await end.aclose()
                with pytest.raises((Closed, ConnectionLost)):
                    await end.receive()
                with pytest.raises((Closed, ConnectionLost)):
                    await end.send(PLAIN, {}, b"late")

    @promise()
    async def test_a_sender_that_is_cancelled_sends_no_half_message(self) -> None:
        seen: list[bytes] = []
        async with self.ends() as ends:
            here, peer = await ends.open()
            with anyio.move_on_after(0.2):
                await send_without_end(here, [])
            await anyio.sleep(0.05)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(here.aclose)
                with pytest.raises(MicroError):
                    await receive_bodies_until_error(peer, seen)
            await peer.aclose()
        assert {len(body) for body in seen} <= {65536}

    @promise()
    async def test_a_stream_may_be_closed_twice_at_both_ends(self) -> None:
        async with self.ends() as ends:
            for stream in await ends.open():
                await stream.aclose()
                await stream.aclose()


async def ended(stream: Stream) -> None:
    """Receive, and assert that this ends."""
    with pytest.raises((ConnectionLost, Closed)):
        await stream.receive()
    await stream.aclose()


async def send_numbers(stream: Stream) -> None:
    """Send 300 messages."""
    for number in range(300):
        await stream.send(PLAIN, {}, b"%d" % number)


async def receive_bodies(stream: Stream, bodies: list[bytes]) -> None:
    """Receive 300 messages."""
    for _ in range(300):
        bodies.append((await stream.receive()).body)


async def receive_bodies_until_error(stream: Stream, bodies: list[bytes]) -> None:
    """Receive messages for as long as there are any."""
    while True:
        bodies.append((await stream.receive()).body)


async def send_without_end(stream: Stream, sent: list[int]) -> None:
    """Send large messages until that fails, noting each."""
    for number in range(4096):
        await stream.send(PLAIN, {}, b"x" * 65536)
        sent.append(number)


async def sender_waits(sender: Stream, receiver: Stream) -> None:
    """Assert that a sender nobody reads from stops below 64 MiB, and goes on when somebody does."""
    sent: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_without_end, sender, sent)
        stalled = -1
        while len(sent) != stalled:
            stalled = len(sent)
            await anyio.sleep(0.2)
        assert 0 < stalled < 1024
        for _ in range(stalled + 10):
            message: Message = await receiver.receive()
            assert len(message.body) == 65536
        tasks.cancel_scope.cancel()
    await sender.aclose()
    await receiver.aclose()


async def sent_before_closing_arrives(sender: Stream, receiver: Stream) -> None:
    """Assert that messages sent before closing are read, and nothing after them."""
    for number in range(3):
        await sender.send(PLAIN, {}, b"%d" % number)
    await sender.aclose()
    seen: list[bytes] = []
    with pytest.raises(ConnectionLost):
        await receive_bodies_until_error(receiver, seen)
    await receiver.aclose()
    assert seen == [b"0", b"1", b"2"]
