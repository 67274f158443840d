"""The proxy does on real sockets what it says, seen from both ends of it."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micro_conformance.proxy import TcpProxy, Wire

PATIENCE = 5.0
QUIET = 0.2


class Server:
    """Takes connections, for tests that hold both ends in their hands."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(PATIENCE)
        self._open = [self._listening]
        self.address = "{}:{}".format(*self._listening.getsockname())

    def accept(self) -> socket.socket:
        """Return the server's end of the next connection."""
        taken, _ = self._listening.accept()
        return self._kept(taken)

    def connect(self, proxy: TcpProxy) -> socket.socket:
        """Return a client's end, which may not have reached the server."""
        host, port = proxy.address.rsplit(":", 1)
        return self._kept(socket.create_connection((host, int(port)), PATIENCE))

    def ends(self, proxy: TcpProxy) -> tuple[socket.socket, socket.socket]:
        """Return both ends of a connection through the proxy."""
        return self.connect(proxy), self.accept()

    def _kept(self, made: socket.socket) -> socket.socket:
        made.settimeout(PATIENCE)
        self._open.append(made)
        return made

    def close(self) -> None:
        """Close all ends."""
        for one in self._open:
            one.close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[TcpProxy]:
    with TcpProxy(server.address) as made:
        yield made


def exactly(end: socket.socket, count: int) -> bytes:
    """Return so many bytes."""
    received = b""
    while len(received) < count:
        received += end.recv(count - len(received))
    return received


def whole(end: socket.socket) -> bytes:
    """Return everything until the end."""
    received = b""
    while chunk := end.recv(65536):
        received += chunk
    return received


def hears_nothing(end: socket.socket) -> bool:
    """Say whether nothing comes for a while."""
    end.settimeout(QUIET)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(PATIENCE)
    return False


def test_bytes_pass_both_ways(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    client.sendall(b"question")
    assert exactly(there, 8) == b"question"
    there.sendall(b"answer")
    assert exactly(client, 6) == b"answer"
    assert (proxy.accepted, proxy.connections) == (1, 1)


def test_the_end_of_one_way_is_passed_on_and_the_other_way_stays_open(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    client.sendall(b"all")
    client.shutdown(socket.SHUT_WR)
    assert whole(there) == b"all"
    there.sendall(b"still here")
    there.close()
    assert whole(client) == b"still here"


def test_a_reset_at_one_end_is_a_reset_at_the_other(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    there.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_who_connects_while_it_refuses_is_refused_and_the_connections_there_are_go_on(
    server: Server, proxy: TcpProxy
) -> None:
    client, there = server.ends(proxy)
    address = proxy.address
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        server.connect(proxy)
    client.sendall(b"known")
    assert exactly(there, 5) == b"known"
    proxy.restore()
    assert proxy.address == address
    again, there = server.ends(proxy)
    again.sendall(b"new")
    assert exactly(there, 3) == b"new"


def test_the_port_of_a_proxy_that_refuses_is_taken_by_nobody_else(proxy: TcpProxy) -> None:
    proxy.refuse()
    host, port = proxy.address.rsplit(":", 1)
    with pytest.raises(OSError, match="in use"):
        socket.create_server((host, int(port)), reuse_port=False).close()


def test_cut_connections_are_reset_at_both_ends_and_new_ones_pass(server: Server, proxy: TcpProxy) -> None:
    ends = server.ends(proxy)
    proxy.cut()
    assert proxy.connections == 0
    for end in ends:
        with pytest.raises(ConnectionResetError):
            end.recv(1)
    client, there = server.ends(proxy)
    client.sendall(b"new")
    assert exactly(there, 3) == b"new"


def test_cut_connections_may_end_in_order(server: Server, proxy: TcpProxy) -> None:
    ends = server.ends(proxy)
    proxy.cut(reset=False)
    assert [whole(end) for end in ends] == [b"", b""]


def test_new_connections_go_to_another_target_and_those_there_are_stay(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    with socket.create_server(("127.0.0.1", 0)) as other:
        host, port = other.getsockname()
        proxy.retarget(f"{host}:{port}")
        server.connect(proxy).sendall(b"new")
        with other.accept()[0] as elsewhere:
            assert exactly(elsewhere, 3) == b"new"
        client.sendall(b"old")
        assert exactly(there, 3) == b"old"


def test_down_ends_connections_and_refuses_new_ones(server: Server, proxy: TcpProxy) -> None:
    client, _ = server.ends(proxy)
    proxy.down()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        server.connect(proxy)


def test_a_hanging_proxy_accepts_and_nothing_passes_until_it_is_restored(server: Server, proxy: TcpProxy) -> None:
    old, old_there = server.ends(proxy)
    proxy.hang()
    new = server.connect(proxy)
    for client in (old, new):
        client.sendall(b"x")
    assert hears_nothing(old_there)
    assert hears_nothing(new)
    proxy.restore()
    assert (exactly(old_there, 1), exactly(server.accept(), 1)) == (b"x", b"x")


def test_silent_connections_stay_open_and_unheard_while_new_ones_pass(server: Server, proxy: TcpProxy) -> None:
    old, old_there = server.ends(proxy)
    proxy.silence()
    new, new_there = server.ends(proxy)
    old.sendall(b"old")
    old_there.close()
    new.sendall(b"new")
    assert exactly(new_there, 3) == b"new"
    assert hears_nothing(old)


@pytest.mark.parametrize("way", ["upstream", "downstream"])
def test_a_half_closed_connection_ends_one_way_and_goes_on_the_other(server: Server, proxy: TcpProxy, way: str) -> None:
    client, there = server.ends(proxy)
    ended, open_end = (there, client) if way == "upstream" else (client, there)
    proxy.half_close(way)  # type: ignore[arg-type]
    assert whole(ended) == b""
    open_end.sendall(b"lost")
    ended.sendall(b"goes on")
    assert exactly(open_end, 7) == b"goes on"


def test_a_delayed_way_takes_its_time_and_holds_up_nothing_more(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    proxy.upstream = Wire(delay=0.5)
    begun = time.monotonic()
    for _ in range(20):
        client.sendall(b"x")
        time.sleep(0.01)
    assert exactly(there, 20) == b"x" * 20
    assert 0.65 < time.monotonic() - begun < 5, "20 times 10 ms and once 500 ms, not 20 times 500 ms"


def test_a_slow_way_takes_a_second_for_a_seconds_bytes(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    proxy.downstream = Wire(rate=20_000)
    begun = time.monotonic()
    there.sendall(b"x" * 10_000)
    assert exactly(client, 10_000) == b"x" * 10_000
    assert time.monotonic() - begun > 0.45


def test_a_connection_falls_silent_in_the_middle_of_what_is_slow(server: Server, proxy: TcpProxy) -> None:
    client, there = server.ends(proxy)
    proxy.downstream = Wire(rate=10_000)
    there.sendall(b"x" * 100_000)
    client.recv(1)
    proxy.silence()
    while not hears_nothing(client):  # what had passed before
        client.recv(65536)
    proxy.downstream = Wire()
    assert hears_nothing(client)


@settings(max_examples=25)
@given(body=st.binary(max_size=100_000), count=st.integers(0, 120_000))
def test_what_is_truncated_ends_after_so_many_bytes_both_ways(body: bytes, count: int) -> None:
    with served() as (server, proxy):
        client, there = server.ends(proxy)
        proxy.downstream = Wire(truncate=count)
        threading.Thread(target=send_and_close, args=(there, body)).start()
        assert whole(client) == body[:count]


@settings(max_examples=25)
@given(body=st.binary(min_size=1, max_size=100_000), data=st.data())
def test_one_flipped_bit_is_the_only_one_that_differs(body: bytes, data: st.DataObject) -> None:
    flip = data.draw(st.integers(0, 8 * len(body) - 1))
    with served() as (server, proxy):
        client, there = server.ends(proxy)
        proxy.upstream = Wire(flip=flip)
        threading.Thread(target=send_and_close, args=(client, body)).start()
        arrived = whole(there)
    assert int.from_bytes(arrived, "little") ^ int.from_bytes(body, "little") == 1 << flip


@settings(max_examples=15)
@given(st.lists(st.binary(min_size=1, max_size=30_000), max_size=20), st.sampled_from([0.0, 0.001]))
def test_bytes_arrive_in_their_order_whatever_pieces_they_come_in(pieces: list[bytes], delay: float) -> None:
    with served() as (server, proxy):
        client, there = server.ends(proxy)
        proxy.upstream = Wire(delay=delay, rate=100_000_000)
        threading.Thread(target=send_and_close, args=(client, *pieces)).start()
        assert whole(there) == b"".join(pieces)


@contextmanager
def served() -> Iterator[tuple[Server, TcpProxy]]:
    """Run a server and a proxy before it."""
    server = Server()
    try:
        with TcpProxy(server.address) as proxy:
            yield server, proxy
    finally:
        server.close()


def send_and_close(end: socket.socket, *bodies: bytes) -> None:
    """Send everything, as far as anybody takes it."""
    try:
        for body in bodies:
            end.sendall(body)
        end.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.mark.anyio
async def test_it_serves_tests_on_every_event_loop(server: Server, proxy: TcpProxy) -> None:
    host, port = proxy.address.rsplit(":", 1)
    async with await anyio.connect_tcp(host, int(port)) as stream:
        there = await anyio.to_thread.run_sync(server.accept)
        await stream.send(b"hello")
        assert await anyio.to_thread.run_sync(exactly, there, 5) == b"hello"
        proxy.cut()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()


def test_it_serves_other_processes(server: Server, proxy: TcpProxy) -> None:
    program = (
        "import socket, sys; host, port = sys.argv[1].split(':')\nsocket.create_connection((host, port)).send(b'hi')"
    )
    ran = subprocess.run([sys.executable, "-c", program, proxy.address], check=False)
    assert (ran.returncode, whole(server.accept())) == (0, b"hi")


def test_a_server_that_is_away_resets_who_came_by_the_proxy(server: Server, proxy: TcpProxy) -> None:
    proxy.refuse()
    with TcpProxy(proxy.address) as before, pytest.raises(ConnectionResetError):
        server.connect(before).recv(1)


def test_leaving_ends_connections_in_every_state(server: Server) -> None:
    with TcpProxy(server.address) as proxy:
        passing, _ = server.ends(proxy)
        stuck, _ = server.ends(proxy)
        proxy.upstream = Wire(delay=60.0)
        stuck.sendall(b"late")
        proxy.hang()
        silent = server.connect(proxy)
        while proxy.connections < 3:
            time.sleep(0.001)
    for client in (passing, stuck, silent):
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_it_can_be_entered_again_and_says_what_it_does(server: Server) -> None:
    proxy = TcpProxy(server.address)
    assert repr(proxy) == f"<TcpProxy before {server.address}, not running>"
    with pytest.raises(RuntimeError, match="use it in a with block"):
        proxy.cut()
    for _ in range(2):
        with proxy:
            assert repr(proxy) == f"<TcpProxy {proxy.address} before {server.address}, passing, 0 connections>"
            proxy.hang()
            assert "hanging" in repr(proxy)
            proxy.refuse()
            assert "refusing" in repr(proxy)
            with pytest.raises(RuntimeError, match="runs already"), proxy:
                pass


@pytest.mark.parametrize("wrong", [{"delay": -1}, {"rate": 0}, {"truncate": -1}, {"flip": -1}, {"delay": float("nan")}])
def test_a_wire_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no wire"):
        Wire(**wrong)  # type: ignore[arg-type]
