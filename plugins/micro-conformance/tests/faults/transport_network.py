"""One broken transport over TCP for each promise about networks that fail.

`Sound` is a whole transport in little: a connection for each call or stream, frames with a checksum.
"""

import json
import socket
import struct
import zlib
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute

from micro_conformance import TransportConformance, promises
from micro_core import Channel as AnyChannel
from micro_core import (
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Executed,
    Listener,
    Message,
    MicroError,
    ProtocolError,
    Request,
    Stream,
    Timeout,
    Transport,
)

PREFIX = struct.Struct(">4sIII")
MAGIC = b"mtcp"
LARGEST = 16 * 1024 * 1024
IN_VIRTUAL_TIME = False
ENDED = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


class Frames:
    """Messages on one connection."""

    def __init__(self, part, stream):
        self.part, self.stream, self.rest = part, stream, b""

    async def exactly(self, count):
        while len(self.rest) < count:
            self.rest += await self.stream.receive()
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    async def read(self, half=False):
        """Return a message; ``half`` of one too. Raises `ProtocolError`, and what the stream raises."""
        prefix = await self.exactly(PREFIX.size)
        magic, head, body, checksum = PREFIX.unpack(prefix)
        if magic != MAGIC or head + body > LARGEST:
            raise ProtocolError("no frame")
        headers = await self.exactly(head)
        try:
            payload = await self.exactly(body)
        except anyio.EndOfStream:
            if not half:
                raise
            return Message(self.decoded(headers), self.rest)
        self.part.check(checksum, prefix[4:12] + headers + payload)
        return Message(self.decoded(headers), payload)

    def decoded(self, headers):
        try:
            return {name.encode(): value.encode("latin-1") for name, value in json.loads(headers).items()}
        except (ValueError, AttributeError) as error:
            raise ProtocolError("no headers") from error

    async def write(self, head, headers, body):
        both = {**head.headers, **headers}
        text = json.dumps({name.decode(): value.decode("latin-1") for name, value in both.items()}).encode()
        lengths = struct.pack(">II", len(text), len(body))
        checksum = zlib.crc32(lengths + text + body)
        await self.stream.send(MAGIC + lengths + struct.pack(">I", checksum) + text + body)


class Messages(Stream):
    """A stream's end."""

    def __init__(self, frames):
        self.frames = frames
        self.closed = anyio.Event()

    async def send(self, head, headers, body):
        try:
            await self.frames.write(head, headers, body)
        except ENDED as error:
            raise ConnectionLost("the peer has gone") from error

    async def receive(self):
        try:
            return await self.frames.part.read_of_stream(self.frames)
        except ENDED as error:
            raise ConnectionLost("the peer has gone") from error

    async def aclose(self):
        self.closed.set()
        await self.frames.part.leave(self.frames.stream)


class Asked(Request):
    __slots__ = ("answer", "answered")

    def respond(self, head, headers, body):
        if not self.answered.is_set():
            self.answer = head, {**headers, b"Micro-Id": self.headers.get(b"Micro-Id", b"")}, body
            self.answered.set()


class Bound(Listener):
    def __init__(self, address):
        self._address = address

    @property
    def address(self):
        return self._address

    async def stop_accepting(self):
        raise NotImplementedError


class Sound(Transport):
    name = "tcp"

    def check(self, checksum, data):
        if zlib.crc32(data) != checksum:
            raise ProtocolError("the checksum is wrong")

    async def read_of_stream(self, frames):
        return await frames.read()

    async def leave(self, stream):
        await anyio.aclose_forcefully(stream)

    # The listener

    @asynccontextmanager
    async def listen(self, address, receive, limits):
        host, _, port = address.rpartition(":")
        listener = await anyio.create_tcp_listener(local_host=host, local_port=int(port))

        async def serve(stream):
            async with stream:
                await self.serve(Frames(self, stream), receive, limits)

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            yield Bound(f"{host}:{listener.extra(SocketAttribute.local_port)}")
            tasks.cancel_scope.cancel()

    async def serve(self, frames, receive, limits):
        message = None
        try:
            with anyio.move_on_after(limits.header_seconds):
                message = await self.first(frames)
        except (ProtocolError, *ENDED):
            return
        if message is None:
            return
        local, remote = (
            ":".join(map(str, frames.stream.extra(of)))
            for of in (SocketAttribute.local_address, SocketAttribute.remote_address)
        )
        stream = Messages(frames) if b"Micro-Stream" in message.headers else None
        request = Asked(message.headers, message.body, local=local, remote=remote, stream=stream)
        request.answered, request.answer = anyio.Event(), None
        receive(request)
        await (stream.closed.wait() if stream else self.answer(request, frames))

    async def first(self, frames):
        return await frames.read()

    async def answer(self, request, frames):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.watch, request, frames, tasks.cancel_scope)
            await request.answered.wait()
            tasks.cancel_scope.cancel()
        try:
            if request.answer:
                await frames.write(*request.answer)
        except ENDED:
            pass

    async def watch(self, request, frames, scope):
        """Abandon the request when its caller has gone."""
        try:
            await frames.stream.receive()
        except ENDED:
            pass
        if request.abandon:
            request.abandon()
        scope.cancel()

    # The caller

    def connect(self, node):
        if not node.address.rpartition(":")[2].isdigit():
            raise ConfigError("no address")
        return Channel(self, node.address)

    async def connected(self, channel):
        host, _, port = channel.address.rpartition(":")
        try:
            return Frames(self, await anyio.connect_tcp(host, int(port)))
        except OSError as error:
            raise ConnectFailed("nobody listens") from error

    async def exchange(self, frames, head, headers, body):
        await frames.write(head, headers, body)
        return await frames.read()

    async def call(self, channel, head, headers, body, deadline):
        frames = reply = None
        try:
            with anyio.CancelScope(deadline=deadline):
                frames = await self.connected(channel)
                reply = await self.exchange(frames, head, headers, body)
        except ENDED as error:
            raise ConnectionLost("the peer has gone") from error
        finally:
            if frames:
                await self.done(channel, frames, reply)
        if reply:
            return reply
        raise Timeout("no reply in time", executed=Executed.MAYBE if frames else Executed.NO)

    async def done(self, channel, frames, reply):
        await anyio.aclose_forcefully(frames.stream)


class Channel(AnyChannel):
    def __init__(self, part, address):
        self.part, self.address, self.idle = part, address, []

    async def call(self, head, id, headers, body, deadline):
        return await self.part.call(self, head, {**headers, b"Micro-Id": b"%d" % id}, body, deadline)

    async def open_stream(self, deadline):
        return Messages(await self.part.connected(self))

    async def aclose(self):
        while self.idle:
            await anyio.aclose_forcefully(self.idle.pop().stream)


# Refused, cut


class RemembersRefusal(Sound):
    refused = False

    async def connected(self, channel):
        try:
            if self.refused:
                raise ConnectFailed("it was refused before")
            return await super().connected(channel)
        except ConnectFailed:
            self.refused = True
            raise


class ResetIsNotExecuted(Sound):
    async def call(self, *arguments):
        try:
            return await super().call(*arguments)
        except ConnectionLost as error:
            if isinstance(error.__cause__, anyio.BrokenResourceError):
                raise ConnectionLost("reset", executed=Executed.NO) from error
            raise


class EndIsAnEmptyReply(Sound):
    async def exchange(self, frames, head, headers, body):
        try:
            return await super().exchange(frames, head, headers, body)
        except anyio.EndOfStream:
            if b"Hold" in headers:
                return Message({}, b"")
            raise


class LeavesHandlersRunning(Sound):
    async def watch(self, request, frames, scope):
        await anyio.sleep_forever()


class KeepsDeadConnections(Sound):
    async def connected(self, channel):
        return channel.idle.pop() if channel.idle else await super().connected(channel)

    async def done(self, channel, frames, reply):
        if reply and not reply.body:
            channel.idle.append(frames)
        else:
            await super().done(channel, frames, reply)

    async def serve(self, frames, receive, limits):
        for _ in range(3):
            await super().serve(frames, receive, limits)


# Half a message


class HalfAReplyIsOne(Sound):
    async def exchange(self, frames, head, headers, body):
        await frames.write(head, headers, body)
        return await frames.read(half=True)


class HalfARequestIsOne(Sound):
    async def first(self, frames):
        return await frames.read(half=True)


class HalfAMessageIsOne(Sound):
    async def read_of_stream(self, frames):
        return await frames.read(half=True)


class ResetStreamsAreRaw(Sound):
    async def read_of_stream(self, frames):
        try:
            return await super().read_of_stream(frames)
        except anyio.BrokenResourceError as error:
            raise ConnectionResetError from error


# Silence


class GivesUpTooEarly(Sound):
    async def call(self, channel, head, headers, body, deadline):
        return await super().call(channel, head, headers, body, deadline - 0.1)


class KeepsSilentConnections(KeepsDeadConnections):
    async def connected(self, channel):
        if channel.idle:
            raw = channel.idle[-1].stream.extra(SocketAttribute.raw_socket)
            try:
                raw.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return channel.idle.pop()
            except OSError:
                pass
            await channel.aclose()
        return await super().connected(channel)

    async def done(self, channel, frames, reply):
        channel.idle.append(frames)


class WaitsForGoodbyes(Sound):
    async def leave(self, stream):
        try:
            await stream.send_eof()
            while True:
                await stream.receive()
        except (OSError, *ENDED):
            await super().leave(stream)


# A wire that is long, thin, or wrong


class Impatient(Sound):
    async def exchange(self, *arguments):
        with anyio.move_on_after(0.5):
            return await super().exchange(*arguments)
        raise Timeout("it took too long", executed=Executed.MAYBE)


class ChecksumsAreRaw(Sound):
    def check(self, checksum, data):
        try:
            super().check(checksum, data)
        except MicroError as error:
            raise ValueError("the checksum is wrong") from error

    async def first(self, frames):
        try:
            return await frames.read()
        except ValueError as error:
            raise ProtocolError("no frame") from error


class NoChecksums(Sound):
    def check(self, checksum, data):
        pass


# Peers that speak something else


class NonsenseIsRaw(Sound):
    async def exchange(self, frames, head, headers, body):
        await frames.write(head, headers, body)
        frames.rest = await frames.stream.receive()
        if not any(frames.rest):
            raise ValueError("zeros")
        return await frames.read()


class NonsenseEndsTheListener(Sound):
    async def first(self, frames):
        frames.rest = await frames.stream.receive()
        if not any(frames.rest):
            raise ValueError("zeros")
        return await frames.read()


class HearsTheSilentOut(Sound):
    async def serve(self, frames, receive, limits):
        await super().serve(frames, receive, type(limits)())


class Suite(TransportConformance):
    plugin = Sound
    patience = 3.0


for name, capability in promises(TransportConformance).items():
    if capability not in ("network", "silence", "integrity"):
        setattr(Suite, name, None)


FAULTS = {
    "test_a_refused_connect_is_connect_failed_until_connects_are_taken_again": RemembersRefusal,
    "test_calls_under_way_on_a_reset_connection_are_all_lost_and_maybe_executed": ResetIsNotExecuted,
    "test_a_call_whose_connection_ends_in_order_is_lost_and_maybe_executed": EndIsAnEmptyReply,
    "test_a_call_whose_callers_connection_is_reset_is_abandoned": LeavesHandlersRunning,
    "test_an_idle_connection_that_was_ended_costs_no_call": KeepsDeadConnections,
    "test_half_a_reply_is_an_error_and_maybe_executed": HalfAReplyIsOne,
    "test_half_a_request_is_seen_by_nobody": HalfARequestIsOne,
    "test_half_a_message_of_a_stream_is_seen_by_nobody": HalfAMessageIsOne,
    "test_a_stream_that_is_reset_is_lost_at_both_ends": ResetStreamsAreRaw,
    "test_a_peer_that_accepts_and_says_nothing_is_a_timeout_at_the_deadline": GivesUpTooEarly,
    "test_a_connection_that_fell_silent_costs_no_more_than_one_timeout": KeepsSilentConnections,
    "test_closing_waits_for_no_peer_that_is_silent": WaitsForGoodbyes,
    "test_calls_over_a_long_thin_wire_come_right": Impatient,
    "test_one_wrong_bit_is_an_error_or_a_reply_and_the_next_call_goes_on": ChecksumsAreRaw,
    "test_one_wrong_bit_is_never_taken_for_right": NoChecksums,
    "test_a_peer_that_speaks_nonsense_is_an_error": NonsenseIsRaw,
    "test_a_caller_that_speaks_nonsense_disturbs_nobody": NonsenseEndsTheListener,
    "test_a_caller_that_says_nothing_is_sent_away": HearsTheSilentOut,
}
