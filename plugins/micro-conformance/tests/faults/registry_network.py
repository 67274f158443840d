"""One broken registry over TCP for each promise about servers that fail.

`Sound` is a whole registry in little, and `Server` its server: a connection for each question and each watch, JSON a
line each, and an empty line now and then, so that silence is noticed.
"""

import math
from contextlib import asynccontextmanager, contextmanager

import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream

from micro_conformance import RegistryConformance, promises
from micro_core import SYNC, Change, ChangeKind, Record, Registry, RegistryError

IN_VIRTUAL_TIME = False
SECRET = "s3cret"
HEARTBEAT = 0.1
LONGEST = 100_000
LOST = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.IncompleteRead)


class Asked(msgspec.Struct):
    do: str
    owner: str
    secret: str
    record: Record | None = None
    name: str | None = None


class Answer(msgspec.Struct):
    error: str = ""
    change: Change | None = None


class Lines:
    """Messages on one connection, a line each."""

    def __init__(self, stream):
        self.stream, self.received = stream, BufferedByteReceiveStream(stream)

    async def send(self, message):
        await self.stream.send(msgspec.json.encode(message) + b"\n")

    async def receive(self, type):
        return msgspec.json.decode(await self.received.receive_until(b"\n", LONGEST), type=type)

    async def aclose(self):
        await anyio.aclose_forcefully(self.stream)


class Server:
    """Keeps nodes in memory, in a thread of its own; one that is restarted knows none."""

    def __init__(self, portal):
        self.portal, self.port = portal, 0
        self.start()

    def start(self):
        self.nodes, self.watches = {}, []
        self.life = self.portal.wrap_async_context_manager(self.listening())
        self.life.__enter__()

    def stop(self):
        self.life.__exit__(None, None, None)

    def restart(self):
        self.stop()
        self.start()

    @asynccontextmanager
    async def listening(self):
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self.port)
        self.port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self.serve)
            yield
            tasks.cancel_scope.cancel()

    async def serve(self, stream):
        lines = Lines(stream)
        try:
            asked = await lines.receive(Asked)
            if asked.secret != SECRET:
                await lines.send(Answer(error="the secret is wrong"))
            elif asked.do == "watch":
                await self.watch(lines, asked.name)
            else:
                self.change(asked)
                await lines.send(Answer())
        except LOST:
            pass
        finally:
            await lines.aclose()

    def change(self, asked):
        if asked.do == "register":
            self.tell(ChangeKind.CREATE, asked.record)
            self.nodes[key_of(asked.record)] = asked.record, asked.owner
        if asked.do in ("deregister", "leave"):
            wanted = list(self.nodes) if asked.do == "leave" else [key_of(asked.record)]
            for key in wanted:
                if self.nodes.get(key, (None, None))[1] == asked.owner:
                    self.tell(ChangeKind.DELETE, self.nodes.pop(key)[0])

    def tell(self, kind, record):
        for name, sending in self.watches:
            if name in (None, record.name):
                sending.send_nowait(Change(kind=kind, record=record))

    async def watch(self, lines, name):
        sending, changes = anyio.create_memory_object_stream(math.inf)
        for record, _ in self.nodes.values():
            if name in (None, record.name):
                sending.send_nowait(Change(kind=ChangeKind.CREATE, record=record))
        sending.send_nowait(SYNC)
        watch = name, sending
        self.watches.append(watch)
        with sending, changes:
            try:
                while True:
                    change = None
                    with anyio.move_on_after(HEARTBEAT):
                        change = await changes.receive()
                    await lines.send(Answer(change=change))
            finally:
                if watch in self.watches:
                    self.watches.remove(watch)


def key_of(record):
    return record.name, record.nodes[0].id


class Sound(Registry):
    """A watch reads its connection itself, and raises when that is lost."""

    name = "tcp"
    silence = 0.8
    timeout = 0.5

    def __init__(self, *, address: str, secret: str) -> None:
        self.address, self.secret, self.closed = address, secret, False

    async def register(self, record, *, ttl=60.0):
        await self.ask("register", record=record)

    async def deregister(self, record):
        await self.ask("deregister", record=record)

    async def aclose(self):
        if not self.closed:
            self.closed = True
            try:
                await self.ask("leave")
            except RegistryError:
                pass

    def limit(self, do):
        return self.timeout

    async def ask(self, do, **wanted):
        with self.failing(), anyio.fail_after(self.limit(do)):
            lines = await self.send(do, **wanted)
            try:
                self.check(await lines.receive(Answer))
            finally:
                await lines.aclose()

    async def send(self, do, **wanted):
        host, _, port = self.address.rpartition(":")
        lines = Lines(await anyio.connect_tcp(host, int(port)))
        await lines.send(Asked(do=do, owner=str(id(self)), secret=self.secret, **wanted))
        return lines

    def check(self, answer):
        if answer.error:
            raise RegistryError(answer.error, permanent=True)
        return answer

    @contextmanager
    def failing(self):
        try:
            yield
        except TimeoutError as error:
            raise RegistryError("the server does not answer") from error
        except LOST as error:
            raise RegistryError("the server was lost") from error

    def watch(self, name=None):
        return self.watching(name)

    @asynccontextmanager
    async def watching(self, name):
        watch = Watch(self, name)
        await watch.connect()
        try:
            yield self.following(watch)
        finally:
            await watch.lines.aclose()

    async def following(self, watch):
        while True:
            yield await watch.read()


class Watch:
    """One watch, and who is there as far as it was told."""

    def __init__(self, part, name):
        self.part, self.name, self.synced, self.known = part, name, False, {}

    async def connect(self):
        with self.part.failing(), anyio.fail_after(self.part.timeout):
            self.lines = await self.part.send("watch", name=self.name)

    async def read(self):
        change = None
        while change is None:
            with self.part.failing(), anyio.fail_after(self.part.silence if self.synced else self.part.timeout):
                change = self.part.check(await self.lines.receive(Answer)).change
        if change == SYNC:
            self.synced = True
        elif change.kind is ChangeKind.DELETE:
            self.known.pop(key_of(change.record), None)
        else:
            self.known[key_of(change.record)] = change.record
        return change

    async def read_anew(self):
        """Return what is there now, over a new connection, however long that takes."""
        await self.lines.aclose()
        self.synced, self.known = False, {}
        while not self.synced:
            try:
                await self.connect()
                while not self.synced:
                    await self.read()
            except RegistryError:
                await anyio.sleep(0.05)
        return self.known


# Watches


class ComesBackWithoutWhoCame(Sound):
    async def following(self, watch):
        while True:
            try:
                yield await watch.read()
            except RegistryError as error:
                if not watch.synced or isinstance(error.__cause__, TimeoutError):
                    raise
                before, now = watch.known, await watch.read_anew()
                for key in before.keys() - now.keys():
                    yield Change(kind=ChangeKind.DELETE, record=before[key])


class BelievesInSilence(Sound):
    silence = math.inf


class TakesNothingForNothingNew(Sound):
    async def following(self, watch):
        while True:
            try:
                yield await watch.read()
            except RegistryError:
                if not watch.synced or await watch.read_anew():
                    raise


# Hanging


class DeregistersWithoutALimit(Sound):
    def limit(self, do):
        return math.inf if do == "deregister" else self.timeout


class ClosesWithoutALimit(Sound):
    def limit(self, do):
        return math.inf if do == "leave" else self.timeout


# Coming back


class AsksWhenItIsOpened(Sound):
    async def __aenter__(self):
        try:
            await self.services()
        except RegistryError as error:
            if not error.permanent:
                raise
        return self


class IsDeafAfterAnOutage(Sound):
    lost = False

    @contextmanager
    def failing(self):
        try:
            with super().failing():
                yield
        except RegistryError:
            self.lost = True
            raise

    async def following(self, watch):
        async for change in super().following(watch):
            yield change
            if change == SYNC and self.lost:
                await anyio.sleep_forever()


class RenewsWhatItRegistered(Sound):
    registered = ()

    async def register(self, record, *, ttl=60.0):
        await self.ask("renew" if record in self.registered else "register", record=record)
        self.registered = (*self.registered, record)


# Refused for good


class RefusedForNow(Sound):
    def check(self, answer):
        if answer.error:
            raise RegistryError(answer.error)
        return answer


class Suite(RegistryConformance):
    plugin = Sound
    options = {"address": "{server}", "secret": SECRET}
    refused_options = {"secret": "wrong"}
    patience = 3.0

    @pytest.fixture(autouse=True)
    def _started(self):
        with start_blocking_portal("asyncio") as portal:
            self.running = Server(portal)
            self.server = f"127.0.0.1:{self.running.port}"
            yield
            self.running.stop()

    async def restart_server(self):
        await anyio.to_thread.run_sync(self.running.restart)


for name, capability in promises(RegistryConformance).items():
    if capability != "server":
        setattr(Suite, name, None)


FAULTS = {
    "test_a_watch_tells_what_changed_while_its_server_was_away_or_raises": ComesBackWithoutWhoCame,
    "test_a_watch_whose_connection_fell_silent_tells_what_changed_or_raises": BelievesInSilence,
    "test_a_watch_of_a_server_that_comes_back_empty_tells_that_all_has_gone_or_raises": TakesNothingForNothingNew,
    "test_what_a_server_that_hangs_is_asked_is_a_registry_error": DeregistersWithoutALimit,
    "test_closing_waits_for_no_server_that_hangs": ClosesWithoutALimit,
    "test_a_registry_opened_while_its_server_is_down_opens_and_works_when_it_is_back": AsksWhenItIsOpened,
    "test_a_registry_works_on_after_an_outage": IsDeafAfterAnOutage,
    "test_a_record_is_registered_again_with_a_server_that_came_back_empty": RenewsWhatItRegistered,
    "test_what_a_server_refuses_for_good_is_a_permanent_registry_error": RefusedForNow,
}
