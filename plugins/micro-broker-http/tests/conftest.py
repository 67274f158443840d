"""What the tests of the broker share: a registry of their own, handlers that collect, and scripted peers."""

import json
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import h11
import pytest

from micro_broker_http.wire.batch import decode_batch
from micro_broker_http.wire.envelope import Form
from micro_broker_http.wire.naming import BROADCAST
from micro_core import Message, Node, Record
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry


@pytest.fixture
def registry():
    return MemoryRegistry(network=MemoryNetwork())


class Collector:
    """A handler that keeps what it gets and tells when there is enough."""

    def __init__(self):
        self.got = []
        self._more = anyio.Event()

    async def __call__(self, topic, message):
        self.got.append((topic, message))
        self._more.set()
        self._more = anyio.Event()

    async def wait_for(self, count):
        with anyio.fail_after(20):
            while len(self.got) < count:
                await self._more.wait()
        return self.bodies

    @property
    def bodies(self):
        return [message.body for _, message in self.got]


@pytest.fixture
def collector(anyio_backend):
    return Collector


@dataclass
class Posted:
    """A request that a scripted peer got."""

    target: str
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def bodies(self):
        return [item.body for item in decode_batch(self.body).items]

    @property
    def numbers(self):
        return [item.number for item in decode_batch(self.body).items]

    @property
    def envelope(self):
        return json.loads(self.body)


@dataclass
class Peer:
    """A subscriber that answers each request with the next of its answers, and the last one again and again.

    An answer is the bytes to write, or a function that makes them; the connection is closed after them. While a peer is
    held it does not answer.
    """

    id: str
    address: str
    answers: list[bytes]
    requests: list[Posted] = field(default_factory=list)
    changed: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)

    async def wait_for(self, count):
        with anyio.fail_after(20):
            while len(self.requests) < count:
                await self.changed.wait()
        return self.requests

    async def serve(self, stream):
        async with stream:
            parser, posted = h11.Connection(h11.SERVER), None
            while True:
                event = parser.next_event()
                if event is h11.NEED_DATA:
                    try:
                        parser.receive_data(await stream.receive())
                    except anyio.EndOfStream:
                        return
                    except anyio.BrokenResourceError:
                        return
                elif isinstance(event, h11.Request):
                    posted = Posted(event.target.decode(), dict(event.headers), b"")
                elif isinstance(event, h11.Data) and posted is not None:
                    posted.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage) and posted is not None:
                    self.requests.append(posted)
                    self.changed.set()
                    self.changed = anyio.Event()
                    await self.released.wait()
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    await stream.send(answer(posted) if callable(answer) else answer)
                    return
                else:
                    return


def everything(posted):
    """Return an answer that acknowledges all of a batch."""
    return acks(len(posted.bodies))


def acks(*lines):
    """Return an answer that says these lines and then ends the connection as it should be ended."""
    body = b"".join(b"%d\n" % line for line in lines)
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def broken(*lines):
    """Return an answer that stops in the middle."""
    body = b"".join(b"%d\n" % line for line in lines)
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 999\r\n\r\n" + body


def status(code):
    """Return an answer with a status and no body."""
    return b"HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % code


class Peers:
    """Scripted subscribers of one registry."""

    everything, acks = staticmethod(everything), staticmethod(acks)
    farewell = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n-\n"
    broken, status = staticmethod(broken), staticmethod(status)

    def __init__(self, registry, group):
        self.registry = registry
        self._group = group

    async def add(self, id, *answers, topic="t", queue="", ours=True, form=None, held=False):
        """Start a peer and register it, a Go peer under its form's name only."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        peer = Peer(id, f"127.0.0.1:{port}", list(answers))
        if not held:
            peer.released.set()
        self._group.start_soon(self._listen, listener, peer)
        for record in self.records(peer, topic, queue, ours, form):
            await self.registry.register(record)
        return peer

    async def remove(self, peer, topic="t", queue="", ours=True, form=None):
        """Take a peer out of the registry; it still listens."""
        for record in self.records(peer, topic, queue, ours, form):
            await self.registry.deregister(record)

    def records(self, peer, topic="t", queue="", ours=True, form=None):
        metadata = {"broker": "http", "secure": "false", "topic": topic, **({"micro": "1"} if ours else {})}
        node = Node(id=peer.id, address=peer.address, metadata=metadata)
        return [Record(name=f.value, version=queue or BROADCAST, nodes=(node,)) for f in ([form] if form else Form)]

    async def _listen(self, listener, peer):
        async with listener:
            await listener.serve(peer.serve)


@pytest.fixture
def peers(registry):
    """Return a context manager that gives `Peers` and ends them."""

    @asynccontextmanager
    async def run():
        async with anyio.create_task_group() as group:
            yield Peers(registry, group)
            group.cancel_scope.cancel()

    return run


class VirtualTime:
    """A clock whose sleepers wake when the test says that time has passed; backoffs pass at once."""

    def __init__(self, *, longest_free=10.0):
        self.now = 0.0
        self._longest_free = longest_free
        self._sleepers = {}
        self.slumber = anyio.Event()

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        if seconds < self._longest_free:
            self.now += seconds
            await anyio.lowlevel.checkpoint()
            return
        until = self.now + seconds
        event = anyio.Event()
        self.slumber.set()
        self._sleepers.setdefault(until, []).append(event)
        await event.wait()

    def advance(self, seconds):
        self.now += seconds
        for until in [until for until in self._sleepers if until <= self.now]:
            for event in self._sleepers.pop(until):
                event.set()


@pytest.fixture
def virtual(anyio_backend):
    return VirtualTime()


@pytest.fixture
def free_address():
    """Return an address of loopback that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _message(body):
    return Message({b"Content-Type": b"application/json"}, body)


@pytest.fixture
def message():
    return _message
