"""What both ends of an HTTP/2 connection have in common: frames by h2, flow control, and streams that are links.

The bytes come from a link and go to one; nothing here waits. A stream call is a link of its own (`StreamLink`), on
which messages have the form that they have on an HTTP/1.1 connection (docs/protocol.md §2.1).
"""

from __future__ import annotations

from typing import Any

import anyio.lowlevel
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.exceptions import H2Error
from h2.settings import Settings
from hyperframe.frame import Frame, GoAwayFrame

from micro_transport_http.io.link import HIGH_WATER, Driver, Link, Timer, Waiter

from .fields import RepeatingDecoder, RepeatingEncoder

__all__ = ["TUNNEL", "H2Connected", "Outgoing", "StreamLink"]

TUNNEL = b"micro-tunnel"
"""The header of a request whose body, and whose answer's, are messages of a stream."""

STREAM_WINDOW = 256 * 1024
"""Bytes of one stream that may be on their way to us."""
CONNECTION_WINDOW = 16 * 1024 * 1024
_LAST_STREAM = 2**31 - 1


class _Connection(H2Connection):
    """h2's connection, but that a peer which is about to leave may still answer what is under way (RFC 9113 §6.8)."""

    def __init__(self, config: H2Configuration) -> None:
        super().__init__(config)
        self.encoder, self.decoder = RepeatingEncoder(), RepeatingDecoder()

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        if frame.error_code != ErrorCodes.NO_ERROR:
            return super()._receive_goaway_frame(frame)
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = ErrorCodes.NO_ERROR, frame.last_stream_id
        return [], [event]


class Outgoing:
    """What is to be sent on one stream and has no room yet."""

    __slots__ = ("buffer", "ends", "link")

    def __init__(self, link: StreamLink | None = None) -> None:
        self.buffer = bytearray()
        self.ends = False
        self.link = link


class H2Connected:
    """One end of a connection."""

    def __init__(self, driver: Driver, link: Link, *, is_client: bool, settings: dict[Any, int]) -> None:
        self._driver = driver
        self._link = link
        config = H2Configuration(
            client_side=is_client,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = _Connection(config)
        self._h2.local_settings = Settings(client=is_client, initial_values=settings)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self._outgoing: dict[int, Outgoing] = {}
        self._links: dict[int, StreamLink] = {}
        self._received = 0
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to say."""
        data = self._h2.data_to_send()
        if data:
            self._link.write(data)

    # ------------------------------------------------------------------------------------------ bodies

    def send_body(self, stream: int, data: bytes, *, ends: bool) -> None:
        """Send what flow control allows, and the rest when it does."""
        outgoing = self._outgoing.get(stream)
        if outgoing is None and ends and self._sends_whole(stream, data):
            return
        if outgoing is None:
            outgoing = self._outgoing[stream] = Outgoing(self._links.get(stream))
        outgoing.buffer += data
        outgoing.ends = outgoing.ends or ends
        self._pump(stream, outgoing)

    def _sends_whole(self, stream: int, data: bytes) -> bool:
        """Send a whole body where there is room for it; return whether nothing is left to do."""
        h2 = self._h2
        try:
            room = min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size)
            if len(data) > room or not self._link.is_writable:
                return False
            h2.send_data(stream, data, end_stream=True)
        except H2Error:  # the stream was closed meanwhile
            pass
        self.flush()
        return True

    def _pump(self, stream: int, outgoing: Outgoing) -> None:
        h2, buffer = self._h2, outgoing.buffer
        try:
            while buffer and self._link.is_writable:
                room = min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size, len(buffer))
                if room <= 0:
                    break
                h2.send_data(stream, bytes(buffer[:room]), end_stream=outgoing.ends and room == len(buffer))
                del buffer[:room]
                self.flush()
                if outgoing.ends and not buffer:
                    del self._outgoing[stream]
                    return
            if outgoing.ends and not buffer:
                h2.end_stream(stream)
                del self._outgoing[stream]
        except H2Error:  # the stream was closed meanwhile
            self._outgoing.pop(stream, None)
        self.flush()

    def pump_all(self) -> None:
        """Go on with every stream that has something to send."""
        for stream, outgoing in list(self._outgoing.items()):
            if stream in self._outgoing:
                self._pump(stream, outgoing)
                if outgoing.link is not None:
                    outgoing.link.caught_up()

    def unsent(self, stream: int) -> int:
        """Return how many bytes wait on a stream."""
        outgoing = self._outgoing.get(stream)
        return 0 if outgoing is None else len(outgoing.buffer)

    # ------------------------------------------------------------------------------------------ windows

    def taken(self, size: int) -> None:
        """Let the peer send as much again on the connection; in few frames."""
        self._received += size
        if self._received >= CONNECTION_WINDOW // 4:
            self._h2.increment_flow_control_window(self._received)
            self._received = 0

    def taken_in(self, stream: int, before: int, now: int) -> None:
        """Let the peer go on with a body of which ``now`` bytes came, ``before`` of them earlier; in few frames."""
        step = STREAM_WINDOW // 4
        if now // step > before // step:
            self.taken_of(stream, (now // step - before // step) * step)

    def taken_of(self, stream: int, size: int) -> None:
        """Let the peer send as much again on a stream."""
        if size:
            try:
                self._h2.increment_flow_control_window(size, stream)
            except (H2Error, KeyError):
                pass  # It ended meanwhile.

    def reset(self, stream: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """End a stream at once."""
        self._outgoing.pop(stream, None)
        self._links.pop(stream, None)
        try:
            self._h2.reset_stream(stream, code)
        except (H2Error, KeyError):
            return
        self.flush()

    def say_goodbye(self, code: ErrorCodes = ErrorCodes.NO_ERROR) -> None:
        """Tell the peer to begin nothing new here."""
        last = _LAST_STREAM if code is ErrorCodes.NO_ERROR else self._h2.highest_inbound_stream_id
        self.flush()
        self._link.write(GoAwayFrame(0, last_stream_id=last, error_code=code).serialize())


class StreamLink(Link):
    """One stream of a connection, as a link: what is above cannot tell it from a connection."""

    def __init__(self, connection: H2Connected, driver: Driver, under: Link, stream: int) -> None:
        self._connection = connection
        self._driver = driver
        self._stream = stream
        self._held = bytearray()
        self._credit = 0
        self._is_paused = False
        self._is_over = False
        self._finishing: Timer | None = None
        self._draining: list[Waiter] = []
        self._sending: list[Waiter] = []
        self.local, self.remote, self.peer = under.local, under.remote, under.peer

    def write(self, data: bytes, *, alone: bool = False) -> None:
        if not self.lost and self._finishing is None:
            self._connection.send_body(self._stream, data, ends=False)
            self._look()

    def caught_up(self) -> None:
        """Look whether there is room again."""
        self._look()

    def _look(self) -> None:
        unsent = self._connection.unsent(self._stream)
        writable = unsent <= HIGH_WATER
        if not unsent:
            _wake(self._sending)
        if writable != self.is_writable and not self.lost:
            self.is_writable = writable
            if writable:
                _wake(self._draining)
            self.owner.writable(writable)

    async def drain(self) -> None:
        await anyio.lowlevel.checkpoint()
        while not (self.is_writable or self.lost):
            waiter = self._driver.waiter()
            self._draining.append(waiter)
            await waiter

    async def sent(self) -> None:
        while self._connection.unsent(self._stream) and not self.lost:
            waiter = self._driver.waiter()
            self._sending.append(waiter)
            await waiter

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        held, self._held = bytes(self._held), bytearray()
        if held:
            self._deliver(held)
        self._let_send()
        self._end_if_over()

    def arrived(self, data: bytes, size: int) -> None:
        """Take what the peer sent; ``size`` is what it counts for. What is held is what the peer may not send again."""
        self._credit += size
        if self._is_paused:
            self._held += data
        else:
            self._deliver(data)
            self._let_send()

    def _deliver(self, data: bytes) -> None:
        if data and self._finishing is None and not self.lost:
            self.owner.received(data)

    def _let_send(self) -> None:
        """Let the peer send as much again as was read; in few frames."""
        if not self._is_paused and self._credit >= STREAM_WINDOW // 4:
            credit, self._credit = self._credit, 0
            self._connection.taken_of(self._stream, credit)
            self._connection.flush()

    def ended(self) -> None:
        """Take note that the peer sends nothing more."""
        self._is_over = True
        self._end_if_over()

    def _end_if_over(self) -> None:
        """End it when all that came before the end was read."""
        if self._is_over and not (self._held or self._is_paused):
            self._end()

    def finish(self, seconds: float) -> None:
        if self.lost or self._finishing is not None:
            return
        self._finishing = self._driver.call_at(self._driver.time() + seconds, self.close)
        self._is_paused = False
        self._connection.send_body(self._stream, b"", ends=True)

    def close(self) -> None:
        if not self.lost:
            self._connection.reset(self._stream)
        self._end()

    def _end(self) -> None:
        if self._finishing is not None:
            self._finishing.cancel()
        if not self.lost:
            self.lost = True
            _wake(self._draining)
            _wake(self._sending)
            self.owner.lost()
            if self._is_over and self._finishing is None:
                # As a socket does: an end that was not answered is answered by the end of everything.
                self._connection.send_body(self._stream, b"", ends=True)


def _wake(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)
    waiters.clear()
