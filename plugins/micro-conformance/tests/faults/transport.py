"""One broken transport for each promise; the table's key is the promise that alone catches it."""

import math
from contextlib import asynccontextmanager

import anyio
from msgspec.structs import replace

from micro_conformance import TransportConformance
from micro_core import (
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Executed,
    Head,
    LimitExceeded,
    Message,
    Timeout,
)
from micro_core.builtin.memory.transport import MemoryTransport


class Faulty(MemoryTransport):
    """A memory transport whose channels call `on_call` and `on_open`, and whose listeners call `on_receive`."""

    def connect(self, node):
        channel = super().connect(node)
        channel.sound_call, channel.sound_open = channel.call, channel.open_stream

        async def call(head, id, headers, body, deadline):
            return await self.on_call(channel, head, id, headers, body, deadline)

        async def open_stream(deadline):
            return await self.on_open(channel, deadline)

        channel.call, channel.open_stream = call, open_stream
        return channel

    async def on_call(self, channel, head, id, headers, body, deadline):
        return await channel.sound_call(head, id, headers, body, deadline)

    async def on_open(self, channel, deadline):
        return await channel.sound_open(deadline)

    def listen(self, address, receive, limits):
        return super().listen(address, lambda request: self.on_receive(receive, request), limits)

    def on_receive(self, receive, request):
        receive(request)


# Messages


class RepliesInOrder(Faulty):
    """Gives replies out in the order of the requests, when many are held."""

    running = 0

    async def on_call(self, channel, head, id, headers, body, deadline):
        self.running += 1
        most = self.running
        reply = await super().on_call(channel, head, id, headers, body, deadline)
        self.running -= 1
        return Message(reply.headers, b"0") if most > 100 else reply


class IdNotReturned(Faulty):
    async def on_call(self, channel, *call):
        reply = await super().on_call(channel, *call)
        return Message({**reply.headers, b"Micro-Id": b"0"}, reply.body)


class HeadRemembersCall(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if b"Covered" in headers:
            head.headers.update(headers)
        return await super().on_call(channel, head, id, headers, body, deadline)


class HeadRemembersReply(Faulty):
    def on_receive(self, receive, request):
        if request.stream is None:
            self.sound = type(request).respond
            request.__class__ = type("Remembering", (type(request),), {"__slots__": (), "respond": self.respond()})
        receive(request)

    def respond(self):
        sound = self.sound

        def respond(request, head, headers, body):
            if b"Covered" in headers:
                head.headers.update(headers)
            sound(request, head, headers, body)

        return respond


class EmptyIsNone(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        plain = not headers and not body and id == 1 and deadline == math.inf and b"Covered" not in head.headers
        reply = await super().on_call(channel, head, id, headers, body, deadline)
        return Message(reply.headers, b"\n") if plain and not reply.body else reply


class BodyEndsAtLineBreak(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if len(body) < 1000:
            body = body.partition(b"\r\n")[0]
        return await super().on_call(channel, head, id, headers, body, deadline)


class BodiesAreCut(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        return await super().on_call(channel, head, id, headers, body[:500_000], deadline)


class HeadersAreTrimmed(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        headers = {name: value.replace(b"\t", b" ") for name, value in headers.items()}
        return await super().on_call(channel, head, id, headers, body, deadline)


class ReplyHeadersAreTrimmed(Faulty):
    async def on_call(self, channel, *call):
        reply = await super().on_call(channel, *call)
        return Message({name: value.replace(b"\t", b" ") for name, value in reply.headers.items()}, reply.body)


class RepliesShareHeaders(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        reply = await super().on_call(channel, head, id, headers, body, deadline)
        if body != b"same":
            return reply
        self.shared = getattr(self, "shared", reply.headers)
        return Message(self.shared, reply.body)


class BodiesAreByteArrays(Faulty):
    async def on_call(self, channel, *call):
        reply = await super().on_call(channel, *call)
        return Message(reply.headers, bytearray(reply.body) if reply.body == b"x" else reply.body)


class AnsweringTwiceFails(Faulty):
    def on_receive(self, receive, request):
        sound = type(request).respond

        def respond(request, head, headers, body):
            if body == b"second":
                raise RuntimeError("answered already")
            sound(request, head, headers, body)

        if request.stream is None:
            request.__class__ = type("Once", (type(request),), {"__slots__": (), "respond": respond})
        receive(request)


class LineBreaksMakeHeaders(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        lines = headers.get(b"Odd", b"").splitlines()
        if len(lines) > 1 and lines[1].startswith(b"Evil"):
            headers = {b"Odd": lines[0], b"Evil": b"1"}
        return await super().on_call(channel, head, id, headers, body, deadline)


class RemoteIsLocal(Faulty):
    def on_receive(self, receive, request):
        request.remote = request.local
        receive(request)


class QuickWaitsForHeld(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if body == b"quick" and not channel._streams:
            await anyio.sleep_forever()
        return await super().on_call(channel, head, id, headers, body, deadline)


class InTheCallersContext(MemoryTransport):
    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        async with super()._listen(address, receive, limits) as listener:
            listener.hand_over = receive
            yield listener


# Nobody there


class NobodyIsLost(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        try:
            return await super().on_call(channel, head, id, headers, body, deadline)
        except ConnectFailed as error:
            if channel._network.listener(channel._address) is None:
                raise ConnectionLost(error.detail) from error
            raise


class LostIsNotExecuted(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        try:
            return await super().on_call(channel, head, id, headers, body, deadline)
        except ConnectionLost as error:
            raise ConnectionLost(error.detail, executed=Executed.NO) from error


class NeverTriesAgain(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        for known in channel._connections:
            if known.lost:
                raise ConnectionLost(known.lost)
        return await super().on_call(channel, head, id, headers, body, deadline)


# Giving up


class TimeoutIsNotExecuted(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        try:
            return await super().on_call(channel, head, id, headers, body, deadline)
        except Timeout as error:
            raise Timeout(error.detail, executed=Executed.NO) from error


class SendsTooLate(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if deadline < anyio.current_time():
            await super().on_call(channel, head, id, headers, body, math.inf)
        return await super().on_call(channel, head, id, headers, body, deadline)


class TimeoutIsNotTold(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if deadline < math.inf:
            headers = {**headers, b"Untold": b"1"}
        return await super().on_call(channel, head, id, headers, body, deadline)

    def on_receive(self, receive, request):
        receive(request)
        if b"Untold" in request.headers:
            request.abandon = None


class CancelIsNotTold(Faulty):
    def on_receive(self, receive, request):
        receive(request)
        if request.body == b"cancelled":
            request.abandon = None


class LateReplyIsTheNext(Faulty):
    """Has the call after three cancelled ones get what was for them."""

    cancelled = 0

    async def on_call(self, channel, head, id, headers, body, deadline):
        try:
            reply = await super().on_call(channel, head, id, headers, body, deadline)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        return Message(reply.headers, b"cancelled") if self.cancelled == 3 else reply


class LosingIsNotTold(Faulty):
    """Abandons when a caller gives up, not when the listener is left."""

    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        requests = []

        def keeping(request):
            receive(request)
            requests.append(request)

        async with super()._listen(address, keeping, limits) as listener:
            yield listener
            for request in requests:
                request.abandon = None


class AbandonsTheAnswered(Faulty):
    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        requests = []

        def keeping(request):
            receive(request)
            requests.append(request)

        async with super()._listen(address, keeping, limits) as listener:
            yield listener
            for request in requests:
                if request.stream is None and request.done.is_set() and request.abandon:
                    request.abandon()


class LateAnswersFail(Faulty):
    def on_receive(self, receive, request):
        sound = type(request).respond

        def respond(request, head, headers, body):
            if request.done.is_set() and body == b"late":
                raise RuntimeError("nobody waits")
            sound(request, head, headers, body)

        if request.stream is None:
            request.__class__ = type("Failing", (type(request),), {"__slots__": (), "respond": respond})
        receive(request)


# Limits


class LimitOneTooLow(Faulty):
    def listen(self, address, receive, limits):
        return super().listen(address, receive, replace(limits, body=limits.body - 1))


class RefusalMayBeExecuted(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        try:
            return await super().on_call(channel, head, id, headers, body, deadline)
        except LimitExceeded as error:
            maybe = Executed.MAYBE if len(headers) < 2 else error.executed
            raise LimitExceeded(error.detail, executed=maybe) from error


class HeadersAreNotLimited(Faulty):
    def listen(self, address, receive, limits):
        return super().listen(address, receive, replace(limits, headers=10_000_000))


class CallsWaitForOneAnother(Faulty):
    """Keeps to one connection, so that its limit holds up whoever comes later."""

    async def on_call(self, channel, *call):
        for known in channel._connections:
            while known.in_flight >= known.listener.limits.calls and not known.lost:  # noqa: ASYNC110 - who ends a call says so to nobody
                await anyio.sleep(1)
        return await super().on_call(channel, *call)


# Beginning and end


class PortStaysZero(Faulty):
    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        async with super()._listen(address, receive, limits) as listener:
            self.network.opened = getattr(self.network, "opened", 0) + 1
            if self.network.opened > 1 and address.endswith(":0"):
                listener._address = "127.0.0.1:0"
            yield listener


class TakesOver(Faulty):
    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        self.network.unbind(address)
        async with super()._listen(address, receive, limits) as listener:
            yield listener


class AnyAddressWillDo(Faulty):
    def connect(self, node):
        try:
            return super().connect(node)
        except ConfigError:
            return None


class StopsEverything(MemoryTransport):
    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        async with super()._listen(address, receive, limits) as listener:

            async def stop_accepting():
                listener.accepting = False
                for connection in tuple(listener._connections):
                    connection.lose("stopped")

            listener.stop_accepting = stop_accepting
            yield listener


class AcceptsAllTheSame(MemoryTransport):
    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        async with super()._listen(address, receive, limits) as listener:

            async def stop_accepting():
                pass

            listener.stop_accepting = stop_accepting
            yield listener


class ClosingLosesCalls(Faulty):
    def connect(self, node):
        channel = super().connect(node)
        sound = channel.aclose

        async def aclose():
            await sound()
            channel.lose("closed")

        channel.aclose = aclose
        return channel


class ClosingClosesAll(Faulty):
    known = ()

    def connect(self, node):
        channel = super().connect(node)
        self.known = (*self.known, channel)
        sound = channel.aclose

        async def aclose():
            if len(self.known) == 2:
                for one in self.known:
                    one._closed = True
            await sound()

        channel.aclose = aclose
        return channel


class ClosedChannelWorks(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if not self._closed:
            channel._closed = False
        return await super().on_call(channel, head, id, headers, body, deadline)


class ClosingLeavesChannels(Faulty):
    async def on_open(self, channel, deadline):
        self.streaming = True
        return await super().on_open(channel, deadline)

    async def aclose(self):
        if getattr(self, "streaming", False):
            await super().aclose()
        self._closed = True


# Streams


class FirstMessageIsEmptied(Faulty):
    def on_receive(self, receive, request):
        if request.stream is not None:
            request.body = b""
        receive(request)


class FaultyStream(Faulty):
    """`spoil` gets both ends of every stream."""

    async def on_open(self, channel, deadline):
        stream = await super().on_open(channel, deadline)
        self.spoil(stream, stream._listening)
        return stream

    def spoil(self, here, there):
        pass


def after(stream, name, change):
    """Put ``change`` round a method of one stream."""
    sound = getattr(stream, name)

    async def changed(*arguments):
        return await change(sound, *arguments)

    setattr(stream, name, changed)


class OutOfOrder(FaultyStream):
    def spoil(self, here, there):
        after(there, "receive", self.receive)

    async def receive(self, sound):
        message = await sound()
        return Message(message.headers, {b"7": b"8", b"8": b"7"}.get(message.body, message.body))


class StreamHeadsWin(FaultyStream):
    def spoil(self, here, there):
        after(there, "send", self.send)

    async def send(self, sound, head, headers, body):
        await sound(Head({**headers, **head.headers}), {}, body)


class DropsEmptyMessages(FaultyStream):
    def spoil(self, here, there):
        after(there, "send", self.send)

    async def send(self, sound, head, headers, body):
        if body or b"Covered" in headers:
            await sound(head, headers, body)


class KeepsAllForTheListener(FaultyStream):
    def spoil(self, here, there):
        there._inbound._is_full = lambda: False


class KeepsAllForTheCaller(FaultyStream):
    def spoil(self, here, there):
        here._inbound._is_full = lambda: False


class StreamStallsCalls(Faulty):
    async def on_call(self, channel, head, id, headers, body, deadline):
        if body == b"quick" and channel._streams:
            await anyio.sleep_forever()
        return await super().on_call(channel, head, id, headers, body, deadline)


class CallerClosesRudely(FaultyStream):
    def spoil(self, here, there):
        after(here, "aclose", lambda sound: self.close(sound, here))

    async def close(self, sound, stream):
        if not stream.closed:
            stream._outbound.drop()
        await sound()


class ListenerClosesRudely(CallerClosesRudely):
    def spoil(self, here, there):
        after(there, "aclose", lambda sound: self.close(sound, there))


class SendsIntoNothing(FaultyStream):
    def spoil(self, here, there):
        after(here, "send", self.send)

    async def send(self, sound, *message):
        try:
            await sound(*message)
        except ConnectionLost as error:
            if "beyond" not in error.detail and "takes" not in error.detail:
                return
            raise


class LeavingIsNotTold(Faulty):
    def on_receive(self, receive, request):
        receive(request)
        if request.stream is not None:
            request.abandon = None


class KeepsStreams(Faulty):
    """Leaves a listener without losing the streams that there are."""

    async def on_open(self, channel, deadline):
        self.network.streaming = True
        return await super().on_open(channel, deadline)

    @asynccontextmanager
    async def _listen(self, address, receive, limits):
        async with super()._listen(address, receive, limits) as listener:
            yield listener
            for connection in listener._connections if getattr(self.network, "streaming", False) else ():
                connection.losing.clear()


class StreamsAreNotLimited(FaultyStream):
    def spoil(self, here, there):
        limits = here._connection.listener.limits
        here._connection.listener.limits = replace(limits, body=limits.body + 1)


class OpensToNobody(Faulty):
    async def on_open(self, channel, deadline):
        try:
            return await super().on_open(channel, deadline)
        except ConnectFailed as error:
            raise ConnectionLost(error.detail) from error


class ClosedChannelOpens(Faulty):
    async def on_open(self, channel, deadline):
        channel._closed = False
        return await super().on_open(channel, deadline)


class ClosedStreamsWait(FaultyStream):
    def spoil(self, here, there):
        after(there, "receive", lambda sound: self.receive(sound, there))

    async def receive(self, sound, stream):
        if stream.closed and not stream._inbound._messages:
            await anyio.sleep_forever()
        return await sound()


class CancelledSendersSendHalf(FaultyStream):
    def spoil(self, here, there):
        after(here, "send", lambda sound, *message: self.send(sound, here, *message))

    async def send(self, sound, stream, head, headers, body):
        try:
            await sound(head, headers, body)
        except anyio.get_cancelled_exc_class():
            stream._outbound.put_nowait(Message({}, body[:100]))
            raise


class StreamsMix(FaultyStream):
    pipes = ()

    def spoil(self, here, there):
        self.pipes = (*self.pipes, there)
        if len(self.pipes) == 5:
            self.pipes[0]._inbound, there._inbound = there._inbound, self.pipes[0]._inbound


class CancelledReceiverLoses(FaultyStream):
    def spoil(self, here, there):
        after(here, "receive", lambda sound: self.receive(sound, here))

    async def receive(self, sound, stream):
        try:
            return await sound()
        except anyio.get_cancelled_exc_class():
            after(stream, "receive", self.lossy)
            raise

    async def lossy(self, sound):
        await sound()
        return await sound()


class ClosingLeavesStreams(Faulty):
    async def aclose(self):
        streams = [stream for channel in self._channels for stream in channel._streams] if self.opened else []
        for stream in streams:
            stream.lose = lambda reason: None
        await super().aclose()

    opened = False

    async def on_open(self, channel, deadline):
        self.opened = True
        return await super().on_open(channel, deadline)


class StreamsCloseOnce(FaultyStream):
    def spoil(self, here, there):
        after(there, "aclose", lambda sound: self.close(sound, there))

    async def close(self, sound, stream):
        if stream.closed:
            raise RuntimeError("closed already")
        await sound()


class Suite(TransportConformance):
    plugin = MemoryTransport
    missing = dict.fromkeys(("network", "silence", "integrity"), "see transport_network.py")


FAULTS = {
    "test_every_reply_goes_to_its_own_call_in_whatever_order_they_come": RepliesInOrder,
    "test_the_id_goes_out_as_micro_id_and_comes_back": IdNotReturned,
    "test_headers_of_a_call_lie_over_its_head_and_are_forgotten_by_the_next": HeadRemembersCall,
    "test_headers_of_a_reply_lie_over_its_head_and_are_forgotten_by_the_next": HeadRemembersReply,
    "test_empty_bodies_arrive_empty": EmptyIsNone,
    "test_every_byte_of_a_body_arrives": BodyEndsAtLineBreak,
    "test_large_bodies_arrive": BodiesAreCut,
    "test_header_values_arrive_as_they_were_sent": HeadersAreTrimmed,
    "test_header_values_of_replies_arrive_as_they_were_sent": ReplyHeadersAreTrimmed,
    "test_requests_share_nothing_that_can_be_changed": RepliesShareHeaders,
    "test_bodies_are_bytes_at_both_ends": BodiesAreByteArrays,
    "test_only_the_first_answer_counts": AnsweringTwiceFails,
    "test_the_call_after_a_cancelled_one_gets_its_own_reply": LateReplyIsTheNext,
    "test_closing_a_channel_leaves_the_others_open": ClosingClosesAll,
    "test_a_stream_that_was_closed_is_used_no_more": ClosedStreamsWait,
    "test_a_sender_that_is_cancelled_sends_no_half_message": CancelledSendersSendHalf,
    "test_streams_at_once_do_not_mix": StreamsMix,
    "test_a_receiver_that_is_cancelled_loses_no_message": CancelledReceiverLoses,
    "test_closing_the_transport_ends_its_streams": ClosingLeavesStreams,
    "test_a_line_break_in_a_header_value_makes_no_other_header": LineBreaksMakeHeaders,
    "test_a_request_knows_both_addresses": RemoteIsLocal,
    "test_a_held_call_holds_up_no_other": QuickWaitsForHeld,
    "test_the_listener_sees_nothing_of_the_callers_context": InTheCallersContext,
    "test_a_call_where_nobody_listens_is_connect_failed_and_not_executed": NobodyIsLost,
    "test_a_listener_lost_in_mid_call_is_connection_lost_and_maybe_executed": LostIsNotExecuted,
    "test_the_way_is_found_again_when_a_listener_comes_back": NeverTriesAgain,
    "test_a_deadline_that_passes_is_a_timeout_and_maybe_executed": TimeoutIsNotExecuted,
    "test_a_deadline_that_has_passed_is_a_timeout_and_not_executed": SendsTooLate,
    "test_a_call_whose_deadline_passes_is_abandoned": TimeoutIsNotTold,
    "test_a_cancelled_call_is_abandoned": CancelIsNotTold,
    "test_a_lost_listener_abandons_what_it_has_in_hand": LosingIsNotTold,
    "test_an_answered_call_is_not_abandoned": AbandonsTheAnswered,
    "test_an_answer_that_nobody_waits_for_is_dropped": LateAnswersFail,
    "test_a_body_at_the_limit_is_taken": LimitOneTooLow,
    "test_a_body_beyond_the_limit_is_refused_and_not_executed": RefusalMayBeExecuted,
    "test_ten_thousand_headers_are_refused_and_not_executed": HeadersAreNotLimited,
    "test_calls_beyond_the_limit_of_a_connection_wait_for_nobody": CallsWaitForOneAnother,
    "test_port_0_binds_an_address_of_its_own": PortStaysZero,
    "test_an_address_in_use_is_a_config_error": TakesOver,
    "test_an_address_that_is_none_is_a_config_error": AnyAddressWillDo,
    "test_who_stops_accepting_goes_on_with_the_connections_there_are": StopsEverything,
    "test_who_stops_accepting_takes_no_new_connection": AcceptsAllTheSame,
    "test_closing_a_channel_lets_the_calls_under_way_end": ClosingLosesCalls,
    "test_a_closed_channel_raises_closed": ClosedChannelWorks,
    "test_closing_the_transport_closes_its_channels": ClosingLeavesChannels,
    "test_the_first_message_of_a_stream_is_its_request": FirstMessageIsEmptied,
    "test_messages_of_a_stream_keep_their_order_both_ways_at_once": OutOfOrder,
    "test_headers_of_a_message_lie_over_its_head": StreamHeadsWin,
    "test_empty_and_large_messages_of_a_stream_arrive": DropsEmptyMessages,
    "test_a_sender_waits_for_a_slow_listener": KeepsAllForTheListener,
    "test_a_sender_waits_for_a_slow_caller": KeepsAllForTheCaller,
    "test_a_stalled_stream_holds_up_no_call": StreamStallsCalls,
    "test_what_a_caller_sent_before_it_closed_arrives_and_then_connection_lost": CallerClosesRudely,
    "test_what_a_listener_sent_before_it_closed_arrives_and_then_connection_lost": ListenerClosesRudely,
    "test_sending_to_a_peer_that_has_gone_is_connection_lost": SendsIntoNothing,
    "test_a_stream_that_its_caller_leaves_is_abandoned": LeavingIsNotTold,
    "test_a_listener_that_is_left_loses_its_streams": KeepsStreams,
    "test_a_message_beyond_the_limit_ends_its_stream_unseen": StreamsAreNotLimited,
    "test_a_stream_where_nobody_listens_is_connect_failed": OpensToNobody,
    "test_a_stream_of_a_closed_channel_is_closed": ClosedChannelOpens,
    "test_a_stream_may_be_closed_twice_at_both_ends": StreamsCloseOnce,
}
