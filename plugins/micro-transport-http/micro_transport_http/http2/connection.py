"""One end of an HTTP/2 connection, without I/O (RFC 9113): bytes in, what came of them to the methods of a role.

Between peers of ours a call is a HEADERS frame and a DATA frame each way, nearly always of known blocks; everything
else that the RFC allows is understood, and what it forbids is answered as it says.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from micro_core import Headers

from .broken import ConnectionBroken, StreamBroken
from .cut_block import CutBlock
from .floods import Floods
from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    HEADERS,
    LARGEST_WINDOW,
    PADDED,
    PING,
    SETTINGS,
    Code,
    Setting,
    frame,
    goaway,
    reset,
    settings,
    unpack_head,
    window_update,
)
from .header_list import Malformed, Start, trailers_of
from .payloads import block_in, check_priority, goaway_in, number_in, ping_in, said_in, unpadded
from .peer_settings import PeerSettings
from .reading_blocks import BlockReader
from .sending import Sending, Wire
from .stream_state import StreamState
from .writing_blocks import BlockWriter

__all__ = ["FRAME_SIZE", "LOW_WINDOW", "Connection"]

_WINDOW = 16 * 1024 * 1024
"""Bytes of all streams that may be on their way to us."""
LOW_WINDOW = _WINDOW - _WINDOW // 4
"""Where so little is left of them, the peer is let on."""
FRAME_SIZE = 64 * 1024
"""The largest frame that we take."""

_REMEMBERED = 256
"""Streams that we have reset and remember: frames that were under way to them are no error of the peer's."""

S = TypeVar("S", bound=StreamState)


class Connection(ABC, Generic[S]):
    """What both roles have in common. ``window`` is what a stream may have on its way to us."""

    def __init__(
        self,
        wire: Wire,
        reader: BlockReader,
        writer: BlockWriter,
        own: Mapping[Setting, int],
        *,
        window: int,
        headers: int,
        time: Callable[[], float],
    ) -> None:
        self.wire = wire
        self.reader = reader
        self.writer = writer
        self.sending = Sending(wire, self.close_if_done)
        self.floods = Floods(time)
        self.streams: dict[int, S] = {}
        self.highest = 0
        """The newest stream that the peer or we have begun."""
        self.served = 0
        """Requests that were answered since the peer last gave one up."""
        self.is_over = False
        """Nothing that comes is looked at any more."""
        self.peer = PeerSettings()
        """What the peer has said about itself."""
        self._stream_window = window
        self._headers_limit = headers
        self._rest = b""
        self._cut_block: CutBlock | None = None
        """The block of headers that is not all here."""
        self._reset: OrderedDict[int, None] = OrderedDict()
        self.window = _WINDOW
        """Bytes of all streams that the peer may still send."""
        self._carried = False
        """Something of use has come since the last PING."""
        self._unacknowledged = 1
        self._is_first = True
        self._handlers = (
            self._data,
            self._headers,
            self._priority,
            self._rst_stream,
            self._settings,
            self._push_promise,
            self._ping,
            self._goaway,
            self._window_update,
            self._continuation,
        )
        values = {Setting.INITIAL_WINDOW_SIZE: window, Setting.MAX_FRAME_SIZE: FRAME_SIZE, **own}
        values[Setting.MAX_HEADER_LIST_SIZE] = headers
        self.hello = settings(values) + window_update(0, _WINDOW - 65_535)
        """What a role sends first."""

    # ------------------------------------------------------------------------------------------ a role's part

    @abstractmethod
    def on_message(self, stream: int, start: Start, headers: Headers, body: bytes) -> bool:
        """Take a message that came as a whole; return False for one that has to be looked at part by part."""

    @abstractmethod
    def on_start(self, stream: int, start: Start, headers: Headers, *, ends: bool) -> None:
        """Take what the message of a stream begins with."""

    @abstractmethod
    def on_settings(self) -> None:
        """Take note of what the peer said about itself."""

    @abstractmethod
    def on_goaway(self, last: int, code: int) -> None:
        """Take note that the peer begins nothing new, and looks at no stream after ``last``."""

    @abstractmethod
    def on_broken(self, sentence: str) -> None:
        """Take note that the peer broke the rules, and was told so."""

    @abstractmethod
    def is_unbegun(self, stream: int) -> bool:
        """Tell whether neither side has begun this stream."""

    @abstractmethod
    def begin(self, stream: int) -> None:
        """Let the peer begin an idle stream. Raises `ConnectionBroken` where it may not."""

    def is_forgiven(self, stream: int) -> bool:
        """Tell whether the peer may not know yet that this stream is closed."""
        return stream in self._reset

    # ------------------------------------------------------------------------------------------ frames

    def receive(self, data: bytes) -> None:
        """Take bytes of the peer. Raises nothing that is the peer's doing."""
        if self._rest:
            data = self._rest + data
        at, there = 0, len(data)
        try:
            while there - at >= FRAME_HEAD and not self.is_over:
                if data[at + 3] == HEADERS:
                    begins, at = at, self._messages(data, at)
                    if at > begins:
                        continue
                size_and_kind, flags, stream = unpack_head(data, at)
                size = size_and_kind >> 8
                if size > FRAME_SIZE:
                    raise ConnectionBroken(Code.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
                begins, ends = at + FRAME_HEAD, at + FRAME_HEAD + size
                if ends > there:
                    break
                at = ends
                self._frame(size_and_kind & 0xFF, flags, stream & LARGEST_WINDOW, data[begins:ends])
        except ConnectionBroken as broken:
            self.end(broken.code, broken.sentence)
            self.on_broken(broken.sentence)
            return
        self._rest = data[at:] if at < there else b""

    def _messages(self, data: bytes, at: int) -> int:
        """Take the messages of the usual form that begin at a place, one after another; return where they end.

        The short way for calls of our peers: a block that is known, and a body in one frame. All else is left alone.
        """
        if self._cut_block is not None or self._is_first:
            return at
        begun, there, most = at, len(data), min(FRAME_SIZE, self._stream_window)
        known, take = self.reader.known, self.on_message
        while there - at >= 2 * FRAME_HEAD and not self.is_over:
            size, flags, stream = unpack_head(data, at)
            ends = at + FRAME_HEAD + (size >> 8)
            if size & 0xFF != HEADERS or flags != END_HEADERS or there - ends < FRAME_HEAD:
                break
            size, flags, of = unpack_head(data, ends)
            if size & 0xFF != DATA or flags != END_STREAM or of != stream:
                break
            size >>= 8
            body = ends + FRAME_HEAD
            if body + size > there or size > most or size > self.window:
                break
            start = known(data[at + FRAME_HEAD : ends])
            if start is None or not take(stream, *start, data[body : body + size]):
                break
            at = body + size
            self.window -= size
        if at > begun:
            self._carried = True
            if self.window <= LOW_WINDOW:
                self.give_back()
        return at

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._is_first:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionBroken(Code.PROTOCOL_ERROR, "another frame than SETTINGS came first")
            self._is_first = False
        cut_block = self._cut_block
        if cut_block is not None and (kind != CONTINUATION or stream != cut_block.stream):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "another frame inside a block of headers")
        try:
            if kind <= CONTINUATION:
                self._handlers[kind](flags, stream, payload)
            else:
                self.floods.others.take()
        except StreamBroken as broken:
            self.floods.made.take()
            known = self.streams.get(broken.stream)
            self.reset(broken.stream, broken.code)
            if known is not None:
                known.was_reset(broken.code, broken.sentence)

    # ------------------------------------------------------------------------------------------ headers

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        block, ends = block_in(flags, stream, payload), bool(flags & END_STREAM)
        if flags & END_HEADERS:
            self._read_block(stream, block, ends=ends)
        else:
            self._cut_block = CutBlock(stream, block, self._headers_limit, ends=ends)

    def _continuation(self, flags: int, stream: int, payload: bytes) -> None:
        block = self._cut_block
        if block is None:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.add(payload)
        if flags & END_HEADERS:
            self._cut_block = None
            self._read_block(stream, block.whole(), ends=block.ends)

    @property
    def is_in_block(self) -> bool:
        """Whether the rest of a block of headers has to come."""
        return self._cut_block is not None

    def _read_block(self, stream: int, block: bytes, *, ends: bool) -> None:
        self._carried = True
        known = self.streams.get(stream)
        if known is None:
            if not self.is_unbegun(stream):
                self._block_of_nobody(stream, block)
                return
            self.begin(stream)
        try:
            if known is not None and known.has_fields:
                self._trailers(known, block, ends=ends)
                return
            start, headers = self.reader.read(block)
        except Malformed as malformed:
            raise StreamBroken(stream, Code.PROTOCOL_ERROR, str(malformed)) from malformed
        if ends and start.length:
            raise StreamBroken(stream, Code.PROTOCOL_ERROR, "less content than content-length says")
        self.on_start(stream, start, headers, ends=ends)

    def _block_of_nobody(self, stream: int, block: bytes) -> None:
        self.reader.fields(block)  # so that the tables stay the same
        if not self.is_forgiven(stream):
            raise ConnectionBroken(Code.STREAM_CLOSED, f"HEADERS of stream {stream}, which is closed")
        self.floods.small.take()

    def _trailers(self, stream: S, block: bytes, *, ends: bool) -> None:
        fields = self.reader.fields(block)
        if stream.has_ended:
            raise StreamBroken(stream.id, Code.STREAM_CLOSED, "HEADERS after the end of a stream")
        if not ends:
            raise StreamBroken(stream.id, Code.PROTOCOL_ERROR, "HEADERS in the middle of a body")
        trailers_of(fields)
        self._ended(stream)
        stream.arrived(b"")

    def _ended(self, stream: S) -> None:
        stream.has_ended = True
        if stream.expected is not None and stream.length != stream.expected:
            raise StreamBroken(stream.id, Code.PROTOCOL_ERROR, "not the content that content-length says")

    # ------------------------------------------------------------------------------------------ data

    def _data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._carried = True
        self.window -= size
        if self.window < 0:
            raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self.window <= LOW_WINDOW:
            self.give_back()
        known = self.streams.get(stream)
        if known is None or known.has_ended:
            self._data_of_nobody(stream, known)
            return
        if not known.has_fields:
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "DATA before HEADERS")
        known.size += size
        if known.size > self._stream_window + known.allowed:
            raise StreamBroken(stream, Code.FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        if flags & PADDED:
            payload = unpadded(payload)
        known.length += len(payload)
        if flags & END_STREAM:
            self._ended(known)
        elif len(payload) < known.least:
            self.floods.small.take()
        elif len(payload) > 1024:
            self.floods.small.earn()  # the rest of a body that was cut into frames may be small
        known.arrived(payload)

    def _data_of_nobody(self, stream: int, known: S | None) -> None:
        if not stream or (known is None and self.is_unbegun(stream)):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"DATA of stream {stream}, which nobody began")
        if known is None and self.is_forgiven(stream):
            self.floods.small.take()
            return
        if known is None:
            raise ConnectionBroken(Code.STREAM_CLOSED, f"DATA of stream {stream}, which is closed")
        raise StreamBroken(stream, Code.STREAM_CLOSED, "DATA after the end of a stream")

    def give_back(self) -> None:
        """Let the peer send as much again as came, unless too much of it is still held here."""
        if self.may_give_back():
            self.wire.write(window_update(0, _WINDOW - self.window))
            self.window = _WINDOW

    def may_give_back(self) -> bool:
        """Tell whether more may come."""
        return True

    def allow(self, stream: S, size: int) -> None:
        """Let the peer send so much more on a stream."""
        stream.allowed += size
        self.wire.write(window_update(stream.id, size))

    # ------------------------------------------------------------------------------------------ the rest

    def _priority(self, flags: int, stream: int, payload: bytes) -> None:
        check_priority(stream, payload)
        self.floods.others.take()

    def _rst_stream(self, flags: int, stream: int, payload: bytes) -> None:
        code = number_in("RST_STREAM", payload)
        if not stream or self.is_unbegun(stream):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"RST_STREAM of stream {stream}, which nobody began")
        self.floods.resets.earn(self.served / 2)
        self.served = 0
        self.floods.resets.take()
        known = self.streams.pop(stream, None)
        if known is not None:
            self.sending.forget(known)
            known.was_reset(code, "")

    def _settings(self, flags: int, stream: int, payload: bytes) -> None:
        said = said_in(stream, payload, acknowledges=bool(flags & ACK))
        if flags & ACK:
            self._unacknowledged -= 1
            if self._unacknowledged < 0:
                self.floods.settings.take()
            return
        self.floods.settings.take()
        for number, value in said:
            self._set(number, value)
        self.wire.write(frame(SETTINGS, ACK, 0, b""))
        self.sending.pump()
        self.on_settings()

    def _set(self, number: int, value: int) -> None:
        self.peer.take(number, value)
        if number == Setting.INITIAL_WINDOW_SIZE:
            self.sending.initial = value
            if any(value + stream.credit > LARGEST_WINDOW for stream in self.streams.values()):
                raise ConnectionBroken(Code.FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
        elif number == Setting.MAX_FRAME_SIZE:
            self.sending.limit_frames(value)
        elif number == Setting.HEADER_TABLE_SIZE:
            self.writer.resize(value)

    def _push_promise(self, flags: int, stream: int, payload: bytes) -> None:
        raise ConnectionBroken(Code.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody allowed")

    def _ping(self, flags: int, stream: int, payload: bytes) -> None:
        question = ping_in(stream, payload)
        if flags & ACK:
            return  # that something came is all there is to know
        if self._carried:
            self._carried = False
        else:
            self.floods.pings.take()
        self.wire.write(frame(PING, ACK, 0, question))

    def _goaway(self, flags: int, stream: int, payload: bytes) -> None:
        last, code = goaway_in(stream, payload)
        self.floods.settings.take()
        self.on_goaway(last, code)

    def _window_update(self, flags: int, stream: int, payload: bytes) -> None:
        size = number_in("WINDOW_UPDATE", payload) & LARGEST_WINDOW
        known = self.streams.get(stream)
        if stream and known is None and self.is_unbegun(stream):
            raise ConnectionBroken(Code.PROTOCOL_ERROR, f"WINDOW_UPDATE of stream {stream}, which nobody began")
        if not size:
            if stream:
                raise StreamBroken(stream, Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            raise ConnectionBroken(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        self.floods.windows.earn(self.sending.taken_count())
        self.floods.windows.take()
        if known is not None or not stream:
            self.sending.opened(known, size)

    # ------------------------------------------------------------------------------------------ our own doing

    def close_if_done(self, stream: S) -> None:
        """Forget a stream that both sides have ended."""
        if stream.has_ended and stream.has_sent_end:
            self.streams.pop(stream.id, None)

    def reset(self, stream: int, code: Code) -> None:
        """End a stream at once; what still comes for it is passed over."""
        known = self.streams.pop(stream, None)
        if known is not None:
            self.sending.forget(known)
        self._remember(stream)
        self.wire.write(reset(stream, code))

    def _remember(self, stream: int) -> None:
        self._reset[stream] = None
        if len(self._reset) > _REMEMBERED:
            self._reset.popitem(last=False)

    def ping(self) -> None:
        """Ask whether the peer is there."""
        self.wire.write(frame(PING, 0, 0, b"micro-up"))

    def goodbye(self, last: int, code: Code, sentence: str = "") -> None:
        """Tell the peer to begin nothing new here."""
        self.wire.write(goaway(last, code, sentence))

    def end(self, code: Code, sentence: str = "") -> None:
        """Tell the peer that the connection is over, and look at nothing more."""
        if not self.is_over:
            self.is_over = True
            self._rest = b""
            self.goodbye(self.highest, code, sentence)
