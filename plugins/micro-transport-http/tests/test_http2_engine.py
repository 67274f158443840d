"""HTTP/2 without I/O: against the library h2, with any split of the bytes, with any frames, and within windows."""

from __future__ import annotations

import struct
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hypothesis import given, settings
from hypothesis import strategies as st

from micro_core import Head, Limits, Message, MicroError
from micro_transport_http.client.http2 import Http2Client
from micro_transport_http.http2 import frames
from micro_transport_http.http2.messages import MessageBuffer, NotAMessage, packed
from micro_transport_http.server.door import Door
from micro_transport_http.server.http2 import Http2Server

SETTINGS = frames.settings({frames.Setting.MICRO: 1})
"""What says that a listener is one of ours."""
ANSWER = Head({b"Content-Type": b"application/json"})
HEAD = Head({b"Micro-Endpoint": b"Greeter.Hello", b"Content-Type": b"application/json"})


class Waiter:
    """A value, when it is there."""

    def __init__(self) -> None:
        self.value: Any = None

    def done(self) -> bool:
        return self.value is not None

    def set_result(self, value: Any) -> None:
        self.value = value


class Timer:
    def cancel(self) -> None:
        pass


class Driver:
    """A clock that a test turns."""

    waiter = Waiter

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any) -> Timer:
        return Timer()


class Wire:
    """A link that keeps what is written."""

    local = remote = "127.0.0.1:1"
    peer: tuple[str, ...] = ()
    refusal = ""

    def __init__(self) -> None:
        self.is_writable = True
        self.lost = self.finished = False
        self.out = bytearray()

    def write(self, data: bytes, *, alone: bool = False) -> None:
        self.out += data

    def before_flush(self, write: Any) -> None:
        write()

    def finish(self, seconds: float) -> None:
        self.finished = True

    def close(self) -> None:
        self.lost = True

    def take(self) -> bytes:
        data = bytes(self.out)
        self.out.clear()
        return data


def echo(request: Any) -> None:
    request.respond(ANSWER, {}, request.body)


def server(receive: Any = echo, **limits: Any) -> tuple[Http2Server, Wire]:
    wire = Wire()
    made = Http2Server(Driver(), wire, receive, Limits(**limits), local="l", door=Door(), ended=lambda _: None)  # type: ignore[arg-type]
    return made, wire


def client(**options: Any) -> tuple[Http2Client, Wire]:
    wire = Wire()
    made = Http2Client(
        Driver(),  # type: ignore[arg-type]
        wire,  # type: ignore[arg-type]
        "127.0.0.1:80",
        scheme=b"http",
        headers=options.get("headers", 1 << 20),
        body=options.get("body", 1 << 26),
    )
    return made, wire


def send(calling: Http2Client, body: bytes, headers: Any = None) -> Any:
    return calling._send(HEAD, headers or {}, body, float("inf")).waiter


def meet(calling: Http2Client, there: Wire, serving: Http2Server, here: Wire, cut: int = 0) -> None:
    """Carry bytes both ways until nobody has anything to say, in pieces of ``cut`` bytes if that is not 0."""
    while there.out or here.out:
        for data, to in ((there.take(), serving), (here.take(), calling)):
            for at in range(0, len(data), cut or len(data) or 1):
                to.received(data[at : at + (cut or len(data))])


@pytest.mark.parametrize("cut", [0, 1, 7])
@pytest.mark.parametrize("size", [0, 1, 20_000, 300_000, 3_000_000])
def test_a_body_of_any_size_comes_back_in_any_pieces(cut: int, size: int) -> None:
    size = min(size, 70_000) if cut else size  # each piece is joined with the frame's beginning
    (calling, there), (serving, here) = client(), server()
    waiters = [send(calling, b"x" * size, {b"Timeout": b"%d" % number}) for number in range(3)]
    meet(calling, there, serving, here, cut)
    assert [waiter.value.body for waiter in waiters] == [b"x" * size] * 3
    assert (calling.in_flight, len(serving.streams), serving.running, serving._bodies.held) == (0, 0, 0, 0)


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.tuples(st.integers(0, 60_000), st.booleans(), st.booleans()), min_size=1, max_size=6),
    window=st.sampled_from([2000, 65_535, 1_000_000]),
    frame=st.sampled_from([16_384, 65_536]),
)
def test_the_library_h2_calls_us(calls: Any, window: int, frame: int) -> None:
    """A caller that is none of ours, with windows of its own, padding and trailers."""
    serving, here = server()
    peer = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    peer.initiate_connection()
    peer.update_settings({4: window, 5: frame})
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "x"), ("micro-endpoint", "A.B")]
    bodies: dict[int, bytes] = {}
    waiting = {2 * number + 1: call for number, call in enumerate(calls)}
    ended: set[int] = set()
    left = {}
    for stream, (size, _, _) in waiting.items():
        peer.send_headers(stream, fields)
        left[stream] = size
    for _ in range(2_000):
        for stream, size in list(left.items()):
            _, pads, trails = waiting[stream]
            room = min(peer.local_flow_control_window(stream) - 10, peer.max_outbound_frame_size - 10, size)
            if room > 0:
                peer.send_data(stream, b"y" * room, pad_length=9 if pads else None)
                left[stream] = size = size - room
            if not size:
                del left[stream]
                if trails:
                    peer.send_headers(stream, [("x-check", "1")], end_stream=True)
                else:
                    peer.end_stream(stream)
        serving.received(peer.data_to_send())
        for event in peer.receive_data(here.take()):
            if isinstance(event, events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, events.StreamEnded):
                ended.add(event.stream_id)
            assert not isinstance(event, events.ConnectionTerminated | events.StreamReset)
        if len(ended) == len(waiting):
            break
    assert {stream: len(bodies.get(stream, b"")) for stream in ended} == {
        stream: call[0] for stream, call in waiting.items()
    }


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60_000), min_size=1, max_size=6),
    window=st.sampled_from([2000, 65_535, 1_000_000]),
)
def test_we_call_the_library_h2(sizes: Any, window: int) -> None:
    calling, there = client()
    peer = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    peer.local_settings = Settings(client=False, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
    peer.initiate_connection()
    bodies: dict[int, bytes] = {}
    outgoing: dict[int, bytes] = {}
    calling.received(SETTINGS + peer.data_to_send())
    waiters = [send(calling, b"z" * size, {b"Timeout": b"9"}) for size in sizes]
    for _ in range(2_000):
        for event in peer.receive_data(there.take()):
            if isinstance(event, events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, events.StreamEnded):
                peer.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/json")])
                outgoing[event.stream_id] = bodies.get(event.stream_id, b"")
        for stream, body in list(outgoing.items()):
            room = min(peer.local_flow_control_window(stream), peer.max_outbound_frame_size, len(body))
            if room or not body:
                peer.send_data(stream, body[:room], end_stream=room == len(body))
                outgoing[stream] = body[room:]
                if room == len(body):
                    del outgoing[stream]
        calling.received(peer.data_to_send())
        if all(waiter.done() for waiter in waiters):
            break
    assert [len(waiter.value.body) for waiter in waiters] == sizes


FRAME = st.builds(
    lambda kind, flags, stream, payload: frames.frame(kind, flags, stream, payload),
    st.integers(0, 12),
    st.integers(0, 255),
    st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1, 2**32 - 1]),
    st.binary(max_size=40) | st.sampled_from([b"\0" * 4, b"\0" * 8, b"\x82\x86\x84", struct.pack(">HI", 4, 2**31 - 1)]),
)


@settings(max_examples=150, deadline=None)
@given(sent=st.lists(FRAME, max_size=20), cut=st.sampled_from([0, 1, 5]))
def test_a_listener_takes_any_frames(sent: list[bytes], cut: int) -> None:
    """Nothing is raised, whatever comes; and the pieces that it comes in make no difference."""
    said = []
    for piece in (0, cut):
        serving, here = server()
        data = frames.PREFACE + SETTINGS + b"".join(sent)
        for at in range(0, len(data), piece or len(data)):
            serving.received(data[at : at + (piece or len(data))])
        said.append(here.take())
    assert said[0] == said[1]


@settings(max_examples=150, deadline=None)
@given(sent=st.lists(FRAME, max_size=20))
def test_a_caller_takes_any_frames(sent: list[bytes]) -> None:
    calling, there = client()
    calling.received(SETTINGS)
    waiters = [send(calling, b"x") for _ in range(3)] if not calling.is_over else []
    for frame in sent:
        if there.lost:
            break
        calling.received(frame)
    calling.lost()
    assert all(isinstance(waiter.value, Message | MicroError) for waiter in waiters)


def test_a_cancelled_call_is_given_up_at_whatever_moment_and_counts_until_it_has_ended() -> None:
    held: list[Any] = []
    abandoned: list[int] = []

    def hold(request: Any) -> None:
        request.abandon = partial(abandoned.append, len(held))
        held.append(request)

    (calling, there), (serving, here) = client(), server(hold, calls=10)
    calling.received(here.take())
    for _ in range(10):
        calls = [calling._send(HEAD, {}, b"x", float("inf")) for _ in range(10)]
        meet(calling, there, serving, here)
        for call in calls:
            calling.forget(call)
        meet(calling, there, serving, here)
    assert len(held) == 20  # twice the limit; what came beyond was refused
    assert abandoned == list(range(20))
    for request in held:
        request.respond(ANSWER, {}, b"for nobody")
    assert (serving.running, serving._bodies.held, here.take()) == (0, 0, b"")


def test_calls_that_are_cancelled_in_the_segment_that_brought_them_are_never_handed_on() -> None:
    held: list[Any] = []
    (calling, there), (serving, here) = client(), server(held.append, calls=100)
    meet(calling, there, serving, here)
    for size in (1, 20_000):
        calls = [calling._send(HEAD, {}, b"x" * size, float("inf")) for _ in range(90)]
        for call in calls:
            calling.forget(call)
        calling._send(HEAD, {}, b"wanted", float("inf"))
        serving.received(there.take())
        here.take()
    assert [request.body for request in held] == [b"wanted"] * 2
    assert (serving.running, serving._bodies.held) == (2, 12)


def test_bytes_of_requests_that_are_not_answered_are_bounded_and_all_get_their_turn() -> None:
    held: list[Any] = []
    (calling, there), (serving, here) = client(), server(held.append, calls=100)
    meet(calling, there, serving, here)
    waiters = [send(calling, b"x" * (4 << 20)) for _ in range(40)]
    answered, most = 0, 0
    while answered < 40:
        meet(calling, there, serving, here)
        most = max(most, serving._bodies.held)
        assert len(held) > answered, "nothing gets on"
        for request in held[answered:]:
            request.respond(ANSWER, {}, b"")
        answered = len(held)
    meet(calling, there, serving, here)
    assert [waiter.value.body for waiter in waiters] == [b""] * 40
    assert most < 100 << 20
    assert (serving._bodies.held, serving._bodies.unfinished) == (0, 0)


def test_unfinished_requests_hold_little() -> None:
    serving, here = server(calls=100)
    serving.received(frames.PREFACE + frames.settings({}))
    block = b"\x83\x86\x84\x41\x01x\x10\x0emicro-endpoint\x03A.B"
    sent = {2 * number + 1: 0 for number in range(100)}
    window, room = 65_535, dict.fromkeys(sent, 262_144)
    for stream in sent:
        serving.received(frames.block_frames(stream, block, 0, 16_384))
    for _ in range(3000):
        said = here.take()
        at = 0
        while at < len(said):
            size_and_kind, _, stream = frames.unpack_head(said, at)
            size, kind = size_and_kind >> 8, size_and_kind & 0xFF
            if kind == 8:
                more = int.from_bytes(said[at + 9 : at + 13])
                window += 0 if stream else more
                room[stream or 1] += more if stream else 0
            at += 9 + size
        stream = max(room, key=lambda each: room[each])
        size = min(window, room[stream], 60_000)
        if size <= 0:
            break
        serving.received(frames.data_frame(stream, b"x" * size, 0))
        window -= size
        room[stream] -= size
        sent[stream] += size
    assert not serving.is_over
    assert serving._bodies.unfinished < 50 << 20
    serving.lost()
    assert (serving._bodies.held, serving._bodies.unfinished) == (0, 0)


def test_a_connection_that_is_cut_off_for_what_it_holds_is_told_and_holds_nothing() -> None:
    serving, here = server(calls=100)
    serving.received(frames.PREFACE + frames.settings({}))
    block = b"\x83\x86\x84\x41\x01x\x10\x0emicro-endpoint\x03A.B"
    serving.received(frames.block_frames(1, block, 0, 16_384) + frames.data_frame(1, b"x" * 1000, 0))
    assert serving.unfinished == 1000
    here.take()
    serving.cut_off("too much")
    assert frames.goaway(1, frames.Code.ENHANCE_YOUR_CALM, "too much") in here.take()
    assert serving.unfinished == 0


def test_a_peer_that_sends_beyond_its_window_is_ended() -> None:
    held: list[Any] = []
    serving, here = server(held.append)
    serving.received(frames.PREFACE + frames.settings({}))
    block = b"\x83\x86\x84\x41\x01x\x10\x0emicro-endpoint\x03A.B"
    serving.received(frames.block_frames(1, block, 0, 16_384))
    for _ in range(20):
        serving.received(frames.data_frame(1, b"x" * 60_000, 0))
    assert frames.reset(1, frames.Code.FLOW_CONTROL_ERROR) not in here.take()  # a body is let in as it comes
    stream = frames.block_frames(3, block + b"\x10\x0cmicro-stream\x011", 0, 16_384)
    serving.received(stream + frames.data_frame(3, packed(None, b"first"), 0))
    for _ in range(6):
        serving.received(frames.data_frame(3, packed(None, b"y" * 50_000), 0))
    assert frames.reset(3, frames.Code.FLOW_CONTROL_ERROR) in here.take()


def test_pings_while_data_flows_are_no_flood() -> None:
    """As grpc-go sends them: one with each round trip, to find out how wide the path is."""
    serving, _ = server()
    serving.received(frames.PREFACE + frames.settings({}))
    block = b"\x83\x86\x84\x41\x01x\x10\x0emicro-endpoint\x03A.B"
    for number in range(5000):
        serving.received(frames.message_frames(2 * number + 1, block, b"x") + frames.frame(6, 0, 0, b"12345678"))
    assert not serving.is_over
    for _ in range(60):
        serving.received(frames.frame(6, 0, 0, b"12345678"))
    assert serving.is_over


@given(
    messages=st.lists(
        st.tuples(st.none() | st.dictionaries(st.just(b"X-A"), st.binary(max_size=9)), st.binary(max_size=50))
    ),
    cut=st.integers(1, 70),
)
def test_messages_come_out_as_they_went_in(messages: Any, cut: int) -> None:
    buffer, found = MessageBuffer(headers=100, body=50), []
    buffer.headers = {b"Opening": b"1"}
    data = b"".join(packed(headers, body) for headers, body in messages)
    for at in range(0, len(data), cut):
        buffer.feed(data[at : at + cut])
        while (message := buffer.next()) is not None:
            found.append(message)
    assert found == [Message(buffer.headers if headers is None else headers, body) for headers, body in messages]
    assert (buffer.size, buffer.taken) == (0, len(data))


@given(data=st.binary(max_size=60) | st.binary(max_size=40).map(lambda tail: b"\1\0\0\0\x20" + tail))
def test_bytes_that_are_no_messages_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    buffer = MessageBuffer(headers=20, body=20)
    buffer.feed(data)
    with suppress(NotAMessage):
        while (message := buffer.next()) is not None:
            assert len(message.body) <= 20
