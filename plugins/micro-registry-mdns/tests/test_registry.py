"""The registry on the loopback interface: two of them, as two processes would have, on every event loop."""

import socket
import threading
from collections.abc import AsyncIterator, Sequence
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from micro_core import SYNC, Change, ChangeKind, Closed, ConfigError, Endpoint, Node, Record, RegistryError, Value
from micro_registry_mdns.registry import MdnsRegistry
from micro_registry_mdns.wire import dns, gomicro, txt

pytestmark = pytest.mark.anyio

LOOPBACK = ["127.0.0.1"]
BOTH = ("dns-sd", "gomicro")
PATIENCE = 10


def registry(dialects: Sequence[str] = BOTH, timeout: float = 0.25) -> MdnsRegistry:
    return MdnsRegistry(interface=LOOPBACK, dialects=dialects, timeout=timeout)


def record(port: int = 4000, version: str = "latest", name: str = "") -> Record:
    name = name or f"test-{uuid4().hex[:12]}"
    endpoint = Endpoint(
        name="Greeter.Hello", request=Value(name="Request", type="Request"), metadata={"idempotent": "true"}
    )
    node = Node(id=f"{name}-{uuid4().hex}", address=f"127.0.0.1:{port}", metadata={"protocol": "mucp"})
    return Record(name=name, version=version, nodes=(node,), endpoints=(endpoint,))


@pytest.mark.parametrize("dialects", [("gomicro",), ("dns-sd",), BOTH], ids="+".join)
async def test_what_one_registers_another_looks_up(dialects: Sequence[str]) -> None:
    greeter = record()
    async with registry(dialects) as one, registry(dialects) as other:
        await one.register(greeter)
        assert await other.lookup(greeter.name) == [greeter]


@pytest.mark.parametrize(("mine", "theirs"), [(("gomicro",), BOTH), (("dns-sd",), BOTH), (BOTH, ("dns-sd",))])
async def test_one_common_dialect_is_enough(mine: Sequence[str], theirs: Sequence[str]) -> None:
    greeter = record()
    async with registry(mine) as one, registry(theirs) as other:
        await one.register(greeter)
        assert await other.lookup(greeter.name) == [greeter]


async def test_an_unknown_name_is_an_empty_answer() -> None:
    async with registry(timeout=0.05) as one:
        assert await one.lookup(f"nobody-{uuid4().hex[:8]}") == []
        assert await one.lookup("no.such..name") == []
        assert await one.lookup("x" * 64) == []


async def told(changes: AsyncIterator[Change], *kinds: ChangeKind) -> Change:
    """Return what a watch tells next of a node, or the next of some kinds."""
    while (change := await anext(changes)) == SYNC or (kinds and change.kind not in kinds):
        pass
    return change


@pytest.mark.parametrize("dialects", [("gomicro",), ("dns-sd",), BOTH], ids="+".join)
async def test_a_watcher_sees_a_node_come_change_and_go(dialects: Sequence[str]) -> None:
    greeter = record()
    moved = replace(greeter, nodes=(replace(greeter.nodes[0], address="127.0.0.1:4001"),))
    async with registry(dialects) as one, registry(dialects) as other, other.watch(greeter.name) as changes:
        with anyio.fail_after(PATIENCE):
            await one.register(greeter)
            came = await told(changes)
            await one.register(moved)
            changed = await told(changes)
            await one.deregister(moved)
            went = await told(changes)
    assert (came.kind, came.record) == (ChangeKind.CREATE, greeter)
    assert (changed.kind, changed.record) == (ChangeKind.UPDATE, moved)
    assert (went.kind, went.record) == (ChangeKind.DELETE, moved)


async def test_a_watcher_of_all_finds_what_is_there_already() -> None:
    greeter = record()
    async with registry(("gomicro",)) as one, registry(("gomicro",)) as other:
        await one.register(greeter)
        with anyio.fail_after(PATIENCE):
            async with other.watch() as changes:
                async for change in changes:
                    if change.record.name == greeter.name:
                        break
    assert change.record == greeter


async def test_a_new_version_replaces_the_old_one() -> None:
    old = record(version="1")
    new = replace(old, version="2")
    async with registry() as one, registry() as other, other.watch(old.name) as changes:
        await one.register(old)
        await one.register(new)
        with anyio.fail_after(PATIENCE):
            seen = [await told(changes) for _ in range(3)]
        assert await other.lookup(old.name) == [new]
    assert [(change.kind, change.record.version) for change in seen] == [
        (ChangeKind.CREATE, "1"),
        (ChangeKind.DELETE, "1"),
        (ChangeKind.CREATE, "2"),
    ]


async def test_registering_the_same_again_tells_nobody() -> None:
    greeter, last = record(), record()
    async with registry() as one, registry() as other, other.watch() as changes:
        for _ in range(3):
            await one.register(greeter)
        await one.register(last)
        seen = []
        with anyio.fail_after(PATIENCE):
            async for change in changes:
                seen.append(change.record.name)
                if change.record.name == last.name:
                    break
    assert seen.count(greeter.name) == 1


async def test_a_watch_syncs_when_its_listening_time_is_over_and_tells_a_node_at_once() -> None:
    greeter = record()
    async with registry() as one, registry(timeout=2) as other:
        await one.register(greeter)
        began = anyio.current_time()
        with anyio.fail_after(PATIENCE):
            async with other.watch(greeter.name) as changes:
                assert (await anext(changes)).record == greeter
                told = anyio.current_time() - began
                assert await anext(changes) == SYNC
                synced = anyio.current_time() - began
    assert told < 1.9 < synced


async def test_who_went_while_nobody_watched_is_not_told_of() -> None:
    name = f"test-{uuid4().hex[:12]}"
    text = txt.split_hex(txt.Description(service=name, version="1"))
    entry = gomicro.Entry(service=name, id=f"{name}-1", host="a.", address="127.0.0.1", port=1, text=text)
    async with registry() as one:
        with anyio.fail_after(PATIENCE):
            async with one.watch(name) as changes:
                send(dns.encode(dns.Message(flags=dns.RESPONSE, answers=entry.unsolicited(120))))
                while (await anext(changes)).kind is not ChangeKind.CREATE:
                    pass
            async with one.watch(name) as changes:
                assert await anext(changes) == SYNC
            assert await one.lookup(name) == []


async def test_a_node_that_somebody_else_takes_back_stays() -> None:
    greeter = record()
    (node,) = greeter.nodes
    text = txt.split_hex(txt.Description(service=greeter.name, version=greeter.version))
    entry = gomicro.Entry(service=greeter.name, id=node.id, host="a.", address="127.0.0.1", port=1, text=text)
    async with registry() as one, registry() as other, other.watch(greeter.name) as changes:
        with anyio.fail_after(PATIENCE):
            await one.register(greeter)
            await told(changes, ChangeKind.CREATE)
            send(gomicro.goodbye(entry))
            with anyio.move_on_after(0.5) as nothing:  # the node is asked whether it has gone
                await told(changes, ChangeKind.DELETE)
            assert nothing.cancelled_caught
            await one.register(greeter)
            assert await other.lookup(greeter.name) == [greeter]


async def test_closing_takes_everything_back() -> None:
    first, second = record(), record()
    async with registry() as other, other.watch() as changes:
        async with registry() as one:
            await one.register(first)
            await one.register(second)
        gone = set()
        with anyio.fail_after(PATIENCE):
            async for change in changes:
                if change.kind is ChangeKind.DELETE:
                    gone.add(change.record.name)
                if {first.name, second.name} <= gone:
                    break
        assert await other.lookup(first.name) == []


async def test_a_node_registered_again_right_after_it_was_taken_back_stays() -> None:
    greeter = record()
    async with registry() as one, registry() as other, other.watch(greeter.name) as changes:
        with anyio.fail_after(PATIENCE):
            await one.register(greeter)
            await one.deregister(greeter)
            await one.register(greeter)
            kinds = [(await told(changes)).kind]
        with anyio.move_on_after(0.8):  # the time in which goodbyes are repeated, and doubted
            while True:
                kinds.append((await told(changes)).kind)
        assert await other.lookup(greeter.name) == [greeter]
    assert kinds[-1] is ChangeKind.CREATE


async def test_a_node_that_is_not_renewed_goes_after_its_ttl(caplog: pytest.LogCaptureFixture) -> None:
    greeter = record()
    async with registry() as one, registry() as other, other.watch(greeter.name) as changes:
        await one.register(greeter, ttl=0.1)
        with anyio.fail_after(PATIENCE):
            kinds = [(await told(changes)).kind for _ in range(2)]
    assert kinds == [ChangeKind.CREATE, ChangeKind.DELETE]
    assert "not renewed" in caplog.text


async def test_taking_back_what_is_unknown_is_no_error() -> None:
    async with registry() as one:
        await one.deregister(record())


@pytest.mark.parametrize("dialects", [("gomicro",), ("dns-sd",), BOTH], ids="+".join)
async def test_services_are_listed_once_each(dialects: Sequence[str]) -> None:
    first, second = record(), record()
    async with registry(dialects) as one, registry(dialects) as other:
        for what in (first, second, record(name=first.name, port=4001)):
            await one.register(what)
        names = list(await other.services())
    assert names == sorted(set(names))
    assert {first.name, second.name} <= set(names)


async def test_a_hundred_nodes_are_all_found() -> None:
    name = f"test-{uuid4().hex[:12]}"
    nodes = tuple(Node(id=f"{name}-{number}", address=f"127.0.0.1:{5000 + number}") for number in range(100))
    async with registry(("gomicro",)) as one, registry(("gomicro",)) as other:
        await one.register(Record(name=name, version="1", nodes=nodes))
        async with other.watch(name) as changes:
            with anyio.fail_after(PATIENCE):
                found = {(await told(changes)).record.nodes[0].id for _ in range(100)}
    assert len(found) == 100


async def test_a_blocked_caller_does_not_keep_the_registry_from_answering() -> None:
    greeter = record()
    async with registry() as one:
        await one.register(greeter)
        answer = ask(gomicro.query(greeter.name, 7))  # blocks this thread, and with it the caller's loop
    assert answer.questions[0].name == f"{greeter.name}.micro."
    assert [found.type for found in answer.answers] == [dns.PTR, dns.SRV, dns.A, dns.TXT]


async def test_a_watch_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micro_registry_mdns.peer.peer._REFRESH", 0.02)
    name = f"test-{uuid4().hex[:12]}"
    with group_socket() as heard:
        async with registry() as one, one.watch(name):
            asked = [question_about(heard, f"{name}.micro.") for _ in range(3)]
    assert len({message.id for message in asked}) > 1


async def test_a_watched_service_is_asked_for_again_and_one_that_nobody_answers_for_twice_more() -> None:
    name = f"test-{uuid4().hex[:12]}"
    with group_socket() as heard:
        async with registry() as one, one.watch(name):
            for _ in range(4):
                question_about(heard, f"{name}.micro.")
            await anyio.sleep(1)
            heard.setblocking(False)
            with pytest.raises(BlockingIOError):  # nothing more is there
                question_about(heard, f"{name}.micro.")


async def test_a_node_that_falls_silent_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("micro_registry_mdns.peer.peer._SWEEP", 0.05)
    name = f"test-{uuid4().hex[:12]}"
    text = txt.split_hex(txt.Description(service=name, version="1"))
    entry = gomicro.Entry(service=name, id=f"{name}-1", host="a.", address="127.0.0.1", port=1, text=text)
    async with registry() as one, one.watch(name) as changes:
        send(dns.encode(dns.Message(flags=dns.RESPONSE, answers=entry.unsolicited(1))))
        with anyio.fail_after(PATIENCE):
            kinds = [(await told(changes)).kind for _ in range(2)]
    assert kinds == [ChangeKind.CREATE, ChangeKind.DELETE]


@pytest.mark.parametrize("id_", ["_under-1", "with space-1", "ünïcode-1", "x" * 63, "a.b.c", "UPPER-1", "100%-[1]"])
async def test_any_id_that_fits_a_label_is_published(id_: str) -> None:
    name = f"test-{uuid4().hex[:12]}"
    what = Record(name=name, version="1", nodes=(Node(id=id_, address="127.0.0.1:4000"),))
    async with registry(("dns-sd",)) as one, registry(("dns-sd",)) as other:
        await one.register(what)
        assert await other.lookup(name) == [what]


@pytest.mark.parametrize("address", ["orders.example:80", "localhost:80", "[fd00::5]:80", "orders.n-1"])
async def test_an_address_arrives_as_it_was_registered(address: str) -> None:
    name = f"test-{uuid4().hex[:12]}"
    what = Record(name=name, version="1", nodes=(Node(id=f"{name}-1", address=address),))
    async with registry() as one, registry() as other:
        await one.register(what)
        assert await other.lookup(name) == [what]


async def test_hostile_datagrams_leave_the_registry_in_good_health() -> None:
    greeter = record()
    hostile = [b"", b"\xff" * 500, gomicro.query(greeter.name, 1)[:-1], b"\0" * 12, gomicro.query("a", 1) * 40]
    async with registry() as one:
        await one.register(greeter)
        send(*hostile)
        assert ask(gomicro.query(greeter.name, 7)).answers


async def test_what_does_not_fit_is_refused_and_nothing_is_published() -> None:
    wrong = record(name="x" * 63)
    async with registry(timeout=0.05) as one:
        with pytest.raises(ConfigError, match="63"):
            await one.register(wrong)
        assert await one.lookup(wrong.name) == []


async def test_use_before_opening_and_after_closing_is_refused() -> None:
    one = registry()
    with pytest.raises(Closed, match="not opened yet"):
        await one.lookup("greeter")
    async with one:
        assert "open" in repr(one)
    await one.aclose()
    with pytest.raises(Closed, match="was closed"):
        await one.register(record())
    with pytest.raises(Closed):
        await one.__aenter__()
    assert repr(one) == "<MdnsRegistry dns-sd+gomicro on 127.0.0.1, closed>"


async def test_closing_ends_what_still_watches() -> None:
    async with registry() as one, one.watch(f"nobody-{uuid4().hex[:8]}") as changes:
        await one.aclose()
        with pytest.raises(Closed):
            await told(changes)


async def test_a_cancelled_lookup_leaves_nothing_behind() -> None:
    async with registry(timeout=30) as one:
        with anyio.move_on_after(0.02) as scope:
            await one.lookup(f"nobody-{uuid4().hex[:8]}")
        assert scope.cancelled_caught
        with anyio.fail_after(PATIENCE):
            await one.deregister(record())


async def test_a_loop_of_the_callers_goes_on_during_a_lookup() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with registry(timeout=0.1) as one, anyio.create_task_group() as group:
        group.start_soon(turn)
        await one.lookup(f"nobody-{uuid4().hex[:8]}")
        group.cancel_scope.cancel()
    assert turns > 10


async def test_an_interface_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(RegistryError, match=r"198\.51\.100\.7.*static"):
        async with MdnsRegistry(interface=["198.51.100.7"]):
            pass


async def test_where_port_5353_cannot_be_bound_looking_up_still_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    greeter = record()
    async with registry() as one:
        await one.register(greeter)
        monkeypatch.setattr("micro_registry_mdns.net.sockets._listening_socket", refuse)
        async with registry() as deaf:
            assert "Address already in use" in caplog.text
            assert await deaf.lookup(greeter.name) == [greeter]
            with pytest.raises(RegistryError, match="5353"):
                await deaf.register(record())


def refuse(interfaces: Sequence[str]) -> socket.socket:
    raise OSError(98, "Address already in use")


async def test_closing_ends_the_thread() -> None:
    async with registry() as one:
        await one.register(record())
        assert "micro-registry-mdns" in {thread.name for thread in threading.enumerate()}
    assert "micro-registry-mdns" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"interface": ["eth0"]}, "interface='eth0'"),
        ({"dialects": ["bonjour"]}, "dns-sd, gomicro"),
        ({"dialects": []}, "dialects is empty"),
        ({"timeout": 0}, "timeout=0"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        MdnsRegistry(**options)  # type: ignore[arg-type]


def send(*packets: bytes) -> None:
    """Send to the group as anybody can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for packet in packets:
            sock.sendto(packet, ("224.0.0.251", 5353))


def group_socket() -> socket.socket:
    """Return a socket that hears the group on loopback."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("224.0.0.251", 5353))
    membership = socket.inet_aton("224.0.0.251") + socket.inet_aton("127.0.0.1")
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    return sock


def question_about(sock: socket.socket, name: str) -> dns.Message:
    """Return the next question about ``name`` that is heard, which never comes from port 5353."""
    while True:
        packet, (_, port) = sock.recvfrom(65_536)
        message = dns.decode(packet)
        if not message.is_response and [question.name for question in message.questions] == [name]:
            assert port != 5353
            return message


def ask(packet: bytes) -> dns.Message:
    """Ask as Go does, from a port of its own, and wait in this thread for the first answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.sendto(packet, ("224.0.0.251", 5353))
        return dns.decode(sock.recv(65_536))
