"""What every transport owes its calls: the promises of `micro_core.transport`; of streams, see `transport_stream`."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import ClassVar

import anyio
import pytest

from micro_conformance.proxy import TcpProxy
from micro_conformance.suite import SOON, promise
from micro_conformance.transport_ends import HEAD, HOLD, Ends, Peer
from micro_conformance.transport_network import NetworkPromises
from micro_conformance.transport_stream import StreamPromises
from micro_core import (
    Closed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Executed,
    Head,
    Headers,
    LimitExceeded,
    Limits,
    MicroError,
    Node,
    Request,
    Timeout,
    Transport,
)

__all__ = ["TransportConformance"]

ODD_VALUES = (
    b"", b"0", b"a b", b"a\tb", b"a;b=c, d", b'"quoted\\"', b"100%25", b"a:b: c", "Grüße, 世界 🙂".encode(),
    b"\xc2\xa0", b"x" * 8000,
)  # fmt: skip

_callers = ContextVar("callers", default="")


class TransportConformance(StreamPromises, NetworkPromises):
    """Subclass it, and give ``plugin`` and ``options``. Listens on 127.0.0.1 with port 0."""

    kind = "transport"
    capabilities: ClassVar[Mapping[str, str]] = {
        "multiplexing": "many calls share a connection",
        "ids": "the id of a call is its header Micro-Id",
        "cancel": "the peer is told that nobody waits any more",
        "lingering": "who stops accepting takes new calls on the connections there are",
        "network": "it speaks TCP, so that a proxy can stand between both ends",
        "silence": "a connection that has fallen silent costs one timeout",
        "integrity": "what was altered on the way is noticed, as under TLS",
    }
    node_metadata: ClassVar[Mapping[str, str]] = {}
    """What a node carries beside the transport's own metadata: ``{"protocol": "mucp"}`` alone makes a Go peer of it."""
    own_metadata: ClassVar[bool] = True
    """False leaves out the transport's own metadata, as if the peer were another's."""

    def transport(self) -> Transport:
        """Return a new transport, not opened; all of one test meet."""
        made = self.make()
        assert isinstance(made, Transport)
        return made

    @asynccontextmanager
    async def ends(self, limits: Limits | None = None, *, proxied: bool = False) -> AsyncIterator[Ends]:
        """Open a channel and the listener that it leads to, with a proxy between them."""
        async with self.transport() as here, self.transport() as there, AsyncExitStack() as stack:
            peer = Peer()
            listening = there.listen("127.0.0.1:0", peer.receive, limits or Limits())
            listener = await stack.enter_async_context(listening)
            proxy = stack.enter_context(TcpProxy(listener.address)) if proxied else None
            channel = here.connect(self.node(proxy.address if proxy else listener.address, there))
            yield Ends(here, channel, peer, listener, proxy, stack)
            await channel.aclose()

    def node(self, address: str, listening: Transport) -> Node:
        """Return the node that listens on ``address``."""
        metadata = {**(listening.metadata if self.own_metadata else {}), **self.node_metadata}
        return Node(id="conformance-1", address=address, metadata=metadata)

    # Messages

    @promise()
    async def test_every_reply_goes_to_its_own_call_in_whatever_order_they_come(self) -> None:
        replies: dict[int, bytes] = {}

        async def call(number: int) -> None:
            replies[number] = (await ends.call(b"%d" % number, HOLD)).body

        async with self.ends(Limits(calls=300)) as ends, anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(call, number)
            await ends.peer.arrived(200)
            for request in reversed(ends.peer.requests):
                ends.peer.answer(request)
        assert replies == {number: b"%d" % number for number in range(200)}

    @promise(needs="ids")
    async def test_the_id_goes_out_as_micro_id_and_comes_back(self) -> None:
        async with self.ends() as ends:
            reply = await ends.call(id=4711)
            assert ends.peer.requests[0].headers[b"Micro-Id"] == b"4711"
            assert reply.headers[b"Micro-Id"] == b"4711"

    @promise()
    async def test_headers_of_a_call_lie_over_its_head_and_are_forgotten_by_the_next(self) -> None:
        head = Head({**HEAD, b"Kept": b"head", b"Covered": b"head"})
        async with self.ends() as ends:
            await ends.channel.call(head, 1, {b"Covered": b"call", b"Added": b"call"}, b"", math.inf)
            await ends.channel.call(head, 2, {}, b"", math.inf)
            first, second = (request.headers for request in ends.peer.requests)
        assert (first[b"Kept"], first[b"Covered"], first[b"Added"]) == (b"head", b"call", b"call")
        assert (second[b"Kept"], second[b"Covered"], second.get(b"Added")) == (b"head", b"head", None)

    @promise()
    async def test_headers_of_a_reply_lie_over_its_head_and_are_forgotten_by_the_next(self) -> None:
        head, replies = Head({b"Kept": b"head", b"Covered": b"head"}), list[Headers]()
        async with self.ends() as ends:
            for answered, headers in ((1, {b"Covered": b"reply", b"Added": b"reply"}), (2, {})):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._collect, ends, replies)
                    (await ends.peer.arrived(answered)).respond(head, headers, b"")
        first, second = replies
        assert (first[b"Kept"], first[b"Covered"], first[b"Added"]) == (b"head", b"reply", b"reply")
        assert (second[b"Kept"], second[b"Covered"], second.get(b"Added")) == (b"head", b"head", None)

    async def _collect(self, ends: Ends, replies: list[Headers]) -> None:
        replies.append((await ends.call(headers=HOLD)).headers)

    @promise()
    async def test_empty_bodies_arrive_empty(self) -> None:
        async with self.ends() as ends:
            assert (await ends.call(b"")).body == b""
            assert ends.peer.requests[0].body == b""

    @promise()
    async def test_every_byte_of_a_body_arrives(self) -> None:
        body = bytes(range(256)) + b"\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n"
        async with self.ends() as ends:
            reply = await ends.call(body)
            assert ends.peer.requests[0].body == body
        assert reply.body == body

    @promise()
    async def test_large_bodies_arrive(self) -> None:
        body = random.Random(1).randbytes(self.largest_body)
        async with self.ends() as ends:
            assert (await ends.call(body)).body == body

    @promise()
    async def test_header_values_arrive_as_they_were_sent(self) -> None:
        draw = random.Random(1)
        letters = [chr(code) for code in range(0x21, 0x2FF) if chr(code).isprintable()]
        values = [*ODD_VALUES, *("".join(draw.choices(letters, k=20)).encode() for _ in range(40))]
        async with self.ends() as ends:
            for value in values:
                await ends.call(headers={b"Odd": value})
            assert [request.headers[b"Odd"] for request in ends.peer.requests] == values

    @promise()
    async def test_header_values_of_replies_arrive_as_they_were_sent(self) -> None:
        async with self.ends() as ends:
            for value in ODD_VALUES:
                async with anyio.create_task_group() as tasks:
                    replies = list[Headers]()
                    tasks.start_soon(self._collect, ends, replies)
                    ends.peer.answer(await ends.peer.arrived(len(ends.peer.requests) + 1), {b"Odd": value})
                assert replies[0][b"Odd"] == value

    @promise()
    async def test_requests_share_nothing_that_can_be_changed(self) -> None:
        async with self.ends() as ends:
            for _ in range(3):
                reply = await ends.call(b"same")
                assert b"Added" not in {**reply.headers, **ends.peer.requests[-1].headers}
                reply.headers[b"Added"] = ends.peer.requests[-1].headers[b"Added"] = b"1"

    @promise()
    async def test_bodies_are_bytes_at_both_ends(self) -> None:
        async with self.ends() as ends:
            for body in (b"", b"x", b"x" * self.largest_body):
                assert type((await ends.call(body)).body) is bytes
                assert type(ends.peer.requests[-1].body) is bytes

    @promise()
    async def test_only_the_first_answer_counts(self) -> None:
        async with self.ends() as ends, anyio.create_task_group() as tasks:
            replies = list[bytes]()

            async def call() -> None:
                replies.append((await ends.call(b"held", HOLD)).body)

            tasks.start_soon(call)
            request = await ends.peer.arrived()
            ends.peer.answer(request, body=b"first")
            ends.peer.answer(request, body=b"second")
            assert (await ends.call(b"next")).body == b"next"
        assert replies == [b"first"]

    @promise()
    async def test_a_line_break_in_a_header_value_makes_no_other_header(self) -> None:
        async with self.ends() as ends:
            for value in (b"a\r\nEvil: 1", b"a\nEvil: 1", b"a\rEvil: 1", b"a\0b"):
                try:
                    await ends.call(b"odd", {b"Odd": value})
                except MicroError:
                    continue
            assert (await ends.call(b"next")).body == b"next"
            assert not any(b"Evil" in request.headers for request in ends.peer.requests)
            assert {request.body for request in ends.peer.requests} <= {b"odd", b"next"}

    @promise()
    async def test_a_request_knows_both_addresses(self) -> None:
        async with self.ends() as ends:
            await ends.call()
            request = ends.peer.requests[0]
            assert request.local == ends.listener.address
            assert request.remote.rpartition(":")[2].isdigit()
            assert request.remote != request.local

    @promise()
    async def test_a_held_call_holds_up_no_other(self) -> None:
        async with self.ends() as ends, anyio.create_task_group() as tasks:
            tasks.start_soon(ends.call, b"held", HOLD)
            held = await ends.peer.arrived()
            assert (await ends.call(b"quick")).body == b"quick"
            ends.peer.answer(held)

    @promise()
    async def test_the_listener_sees_nothing_of_the_callers_context(self) -> None:
        seen: list[str] = []
        async with self.transport() as here, self.transport() as there:
            peer = Peer()

            def receive(request: Request) -> None:
                seen.append(_callers.get())
                peer.receive(request)

            async with there.listen("127.0.0.1:0", receive, Limits()) as listener:
                token = _callers.set("caller")
                channel = here.connect(self.node(listener.address, there))
                await channel.call(Head(HEAD), 1, {}, b"", math.inf)
                _callers.reset(token)
                await channel.aclose()
        assert seen == [""]

    # Nobody there

    @promise()
    async def test_a_call_where_nobody_listens_is_connect_failed_and_not_executed(self) -> None:
        async with self.ends() as ends:
            await ends.leave()
            channel = ends.here.connect(Node(id="gone", address=ends.listener.address))
            with pytest.raises(ConnectFailed) as raised:
                await channel.call(Head(HEAD), 1, {}, b"", math.inf)
        assert raised.value.executed is Executed.NO

    @promise()
    async def test_a_listener_lost_in_mid_call_is_connection_lost_and_maybe_executed(self) -> None:
        async with self.ends() as ends:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._lose, ends)
                with pytest.raises(ConnectionLost) as raised:
                    await ends.call(headers=HOLD)
        assert raised.value.executed is Executed.MAYBE

    async def _lose(self, ends: Ends) -> None:
        await ends.peer.arrived()
        await ends.leave()

    @promise()
    async def test_the_way_is_found_again_when_a_listener_comes_back(self) -> None:
        async with self.ends() as ends, self.transport() as there:
            await ends.call()
            await ends.leave()
            again = Peer()
            async with there.listen(ends.listener.address, again.receive, Limits()):
                body = b""
                for _ in range(3):
                    try:
                        body = (await ends.call(b"again")).body
                        break
                    except (ConnectFailed, ConnectionLost):
                        continue
        assert body == b"again"

    # Giving up

    @promise()
    async def test_a_deadline_that_passes_is_a_timeout_and_maybe_executed(self) -> None:
        async with self.ends() as ends:
            await ends.call()
            with pytest.raises(Timeout) as raised:
                await ends.call(headers=HOLD, deadline=anyio.current_time() + SOON)
        assert raised.value.executed is Executed.MAYBE

    @promise()
    async def test_a_deadline_that_has_passed_is_a_timeout_and_not_executed(self) -> None:
        async with self.ends() as ends:
            with pytest.raises(Timeout) as raised:
                await ends.call(b"late", deadline=anyio.current_time() - 0.1)
            await ends.call(b"next")
            assert [request.body for request in ends.peer.requests] == [b"next"]
        assert raised.value.executed is Executed.NO

    @promise(needs="cancel")
    async def test_a_call_whose_deadline_passes_is_abandoned(self) -> None:
        async with self.ends() as ends:
            await ends.call()
            with pytest.raises(Timeout):
                await ends.call(b"late", HOLD, deadline=anyio.current_time() + SOON)
            assert (await ends.peer.gave_up()).body == b"late"

    @promise(needs="cancel")
    async def test_a_cancelled_call_is_abandoned(self) -> None:
        async with self.ends() as ends:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ends.call, b"cancelled", HOLD)
                await ends.peer.arrived()
                tasks.cancel_scope.cancel()
            assert (await ends.peer.gave_up()).body == b"cancelled"

    @promise()
    async def test_the_call_after_a_cancelled_one_gets_its_own_reply(self) -> None:
        async with self.ends() as ends:
            for number in range(1, 6, 2):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(ends.call, b"cancelled", HOLD)
                    cancelled = await ends.peer.arrived(number)
                    tasks.cancel_scope.cancel()
                ends.peer.answer(cancelled)
                assert (await ends.call(b"next")).body == b"next"

    @promise()
    async def test_a_lost_listener_abandons_what_it_has_in_hand(self) -> None:
        async with self.ends() as ends:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._lose, ends)
                with pytest.raises(ConnectionLost):
                    await ends.call(headers=HOLD)
            await ends.peer.gave_up()
        assert len(ends.peer.abandoned) == 1

    @promise()
    async def test_an_answered_call_is_not_abandoned(self) -> None:
        async with self.ends() as ends:
            await ends.call()
            await ends.channel.aclose()
            await ends.leave()
            assert ends.peer.abandoned == []

    @promise()
    async def test_an_answer_that_nobody_waits_for_is_dropped(self) -> None:
        async with self.ends() as ends:
            await ends.call()
            with pytest.raises(Timeout):
                await ends.call(b"late", HOLD, deadline=anyio.current_time() + SOON)
            ends.peer.answer(await ends.peer.arrived(2))
            assert (await ends.call(b"next")).body == b"next"

    # Limits

    @promise()
    async def test_a_body_at_the_limit_is_taken(self) -> None:
        async with self.ends(Limits(body=1000)) as ends:
            assert (await ends.call(b"x" * 1000)).body == b"x" * 1000

    @promise()
    async def test_a_body_beyond_the_limit_is_refused_and_not_executed(self) -> None:
        async with self.ends(Limits(body=1000)) as ends:
            with pytest.raises(LimitExceeded) as raised:
                await ends.call(b"x" * 1001)
            assert (await ends.call(b"next")).body == b"next"
            assert [request.body for request in ends.peer.requests] == [b"next"]
        assert raised.value.executed is Executed.NO

    @promise()
    async def test_ten_thousand_headers_are_refused_and_not_executed(self) -> None:
        headers = {b"H%d" % number: b"value" for number in range(10_000)}
        async with self.ends() as ends:
            with pytest.raises(LimitExceeded) as raised:
                await ends.call(b"large", headers)
            assert (await ends.call(b"next")).body == b"next"
            assert [request.body for request in ends.peer.requests] == [b"next"]
        assert raised.value.executed is Executed.NO

    @promise()
    async def test_calls_beyond_the_limit_of_a_connection_wait_for_nobody(self) -> None:
        async with self.ends(Limits(calls=2)) as ends, anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ends.call, b"", HOLD)
            await ends.peer.arrived(5)
            for request in ends.peer.requests:
                ends.peer.answer(request)

    # Beginning and end

    @promise()
    async def test_port_0_binds_an_address_of_its_own(self) -> None:
        async with self.ends() as one, self.ends() as other:
            hosts, ports = zip(*(ends.listener.address.split(":") for ends in (one, other)), strict=True)
        assert hosts == ("127.0.0.1", "127.0.0.1")
        assert "0" not in ports
        assert ports[0] != ports[1]

    @promise()
    async def test_an_address_in_use_is_a_config_error(self) -> None:
        async with self.ends() as ends:
            with pytest.raises(ConfigError):
                async with ends.here.listen(ends.listener.address, Peer().receive, Limits()):
                    pass

    @promise()
    async def test_an_address_that_is_none_is_a_config_error(self) -> None:
        async with self.transport() as transport:
            with pytest.raises(ConfigError):
                transport.connect(Node(id="odd", address="no address"))

    @promise(needs="lingering")
    async def test_who_stops_accepting_goes_on_with_the_connections_there_are(self) -> None:
        async with self.ends() as ends:
            await ends.call()
            await ends.listener.stop_accepting()
            assert (await ends.call(b"known")).body == b"known"

    @promise()
    async def test_who_stops_accepting_takes_no_new_connection(self) -> None:
        async with self.ends() as ends:
            await ends.listener.stop_accepting()
            stranger = ends.here.connect(Node(id="stranger", address=ends.listener.address))
            with pytest.raises((ConnectFailed, ConnectionLost)):
                await stranger.call(Head(HEAD), 1, {}, b"", math.inf)
            assert ends.peer.requests == []

    @promise()
    async def test_closing_a_channel_lets_the_calls_under_way_end(self) -> None:
        bodies: list[bytes] = []

        async def call() -> None:
            bodies.append((await ends.call(b"under way", HOLD)).body)

        async with self.ends() as ends, anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            request = await ends.peer.arrived()
            await ends.channel.aclose()
            ends.peer.answer(request)
        assert bodies == [b"under way"]

    @promise()
    async def test_closing_a_channel_leaves_the_others_open(self) -> None:
        async with self.ends() as ends:
            other = ends.here.connect(self.node(ends.listener.address, ends.here))
            await other.call(Head(HEAD), 1, {}, b"", math.inf)
            await ends.call()
            await other.aclose()
            assert (await ends.call(b"open")).body == b"open"

    @promise()
    async def test_a_closed_channel_raises_closed(self) -> None:
        async with self.ends() as ends:
            await ends.channel.aclose()
            await ends.channel.aclose()
            with pytest.raises(Closed):
                await ends.call()

    @promise()
    async def test_closing_the_transport_closes_its_channels(self) -> None:
        async with self.ends() as ends:
            await ends.here.aclose()
            await ends.here.aclose()
            with pytest.raises(Closed):
                await ends.call()
