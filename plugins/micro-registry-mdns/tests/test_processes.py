"""Processes that find each other: on loopback, and in network namespaces of their own. Nothing leaves the machine."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

PROGRAM = Path(__file__).with_name("party.py")
PATIENCE = 20
LOOPBACK = "interface=127.0.0.1"


class Process:
    """A process that is told one line and answers one line."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = str(self._process.pid)
        self.first = self._read()

    def tell(self, *words: str) -> object:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._read()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """End its input, which is how it is told to stop, and wait for it."""
        self._process.communicate(timeout=PATIENCE)

    def _read(self) -> object:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else "ended"


class Host:
    """Where processes run: this machine, or a namespace held by a process."""

    def __init__(self, start: Callable[..., Process], holder: Process | None = None) -> None:
        self._start = start
        self._holder = holder

    def party(self, *options: str) -> Process:
        party = self.program(*options)
        assert party.first == "ready"
        return party

    def program(self, *arguments: str) -> Process:
        return self._start(*self._enter("--user", "--net"), sys.executable, str(PROGRAM), *arguments)

    def namespace(self, setup: str = "") -> "Host":
        """Make a namespace with loopback up, as a host with nothing else, and run ``setup`` in it."""
        unshare = ("unshare", "--net") if self._holder else ("unshare", "--user", "--map-root-user", "--net")
        script = f"set -e; {setup or 'true'}; echo '\"ready\"'; exec cat"
        holder = self._start(*self._enter("--user"), *unshare, "sh", "-c", script)
        assert holder.first == "ready"
        return Host(self._start, holder)

    def run(self, script: str) -> None:
        subprocess.run([*self._enter("--user", "--net"), "sh", "-ec", script], check=True, timeout=PATIENCE)

    @property
    def pid(self) -> str:
        assert self._holder is not None
        return self._holder.pid

    def _enter(self, *namespaces: str) -> tuple[str, ...]:
        if self._holder is None:
            return ()
        return ("nsenter", f"--target={self._holder.pid}", *namespaces, "--preserve-credentials")


@pytest.fixture
def machine() -> Iterator[Host]:
    started: list[Process] = []

    def start(*command: str) -> Process:
        started.append(Process(*command))
        return started[-1]

    yield Host(start)
    for process in reversed(started):
        process.stop()


def namespaces_work() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--net", "ip", "link", "set", "lo", "up"]
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    except OSError:
        return False


needs_namespaces = pytest.mark.skipif(not namespaces_work(), reason="this machine makes no network namespaces")
ONLY_LOOPBACK = "ip link set lo up; ip route add 224.0.0.0/4 dev lo"


def unique(name: str) -> str:
    return f"{name}-{uuid4().hex[:8]}"


def test_two_processes_find_each_other(machine: Host) -> None:
    name = unique("greeter")
    one, other = machine.party(LOOPBACK), machine.party(LOOPBACK)
    assert one.tell("register", name, f"{name}-1", "127.0.0.1:4001") == "registered"
    assert other.tell("register", name, f"{name}-2", "127.0.0.1:4002") == "registered"
    third = machine.party(LOOPBACK)
    assert third.tell("watch", name) == "watching"
    found = [third.tell("next"), third.tell("next")]
    assert sorted(map(str, found)) == ["['create', '127.0.0.1:4001']", "['create', '127.0.0.1:4002']"]
    assert third.tell("lookup", name) == ["127.0.0.1:4001", "127.0.0.1:4002"]
    assert name in third.tell("services")  # type: ignore[operator]


def test_a_process_that_stops_is_gone_from_a_watching_one(machine: Host) -> None:
    name = unique("greeter")
    one, other = machine.party(LOOPBACK), machine.party(LOOPBACK)
    assert other.tell("watch", name) == "watching"
    one.tell("register", name, f"{name}-1", "127.0.0.1:4001")
    assert other.tell("next") == ["create", "127.0.0.1:4001"]
    one.stop()
    assert other.tell("next") == ["delete", "127.0.0.1:4001"]
    assert other.tell("lookup", name) == []


def test_a_killed_process_is_not_found_by_a_new_one(machine: Host) -> None:
    name = unique("greeter")
    one = machine.party(LOOPBACK)
    one.tell("register", name, f"{name}-1", "127.0.0.1:4001")
    one.kill()
    assert machine.party(LOOPBACK).tell("lookup", name) == []


def test_a_process_restarted_under_the_same_id_is_moved(machine: Host) -> None:
    name = unique("greeter")
    watcher, one = machine.party(LOOPBACK), machine.party(LOOPBACK)
    watcher.tell("watch", name)
    one.tell("register", name, f"{name}-1", "127.0.0.1:4001")
    assert watcher.tell("next") == ["create", "127.0.0.1:4001"]
    one.kill()
    machine.party(LOOPBACK).tell("register", name, f"{name}-1", "127.0.0.1:4002")
    assert watcher.tell("next") == ["update", "127.0.0.1:4002"]
    assert watcher.tell("lookup", name) == ["127.0.0.1:4002"]


@needs_namespaces
def test_two_processes_find_each_other_with_no_option_set(machine: Host) -> None:
    host = machine.namespace(ONLY_LOOPBACK)
    one, other = host.party(), host.party()
    assert other.tell("watch", "greeter") == "watching"
    assert one.tell("register", "greeter", "greeter-1", "127.0.0.1:4001") == "registered"
    assert other.tell("next") == ["create", "127.0.0.1:4001"]
    assert host.party().tell("lookup", "greeter") == ["127.0.0.1:4001"]
    assert other.tell("services") == ["greeter"]
    one.stop()
    assert other.tell("next") == ["delete", "127.0.0.1:4001"]


@needs_namespaces
def test_a_question_from_a_socket_bound_to_no_address_is_answered_where_loopback_is_all_there_is(machine: Host) -> None:
    host = machine.namespace(ONLY_LOOPBACK)
    host.party("dialects=gomicro").tell("register", "greeter", "greeter-1", "127.0.0.1:4001")
    assert host.program("ask", "greeter").first == "greeter-1.greeter.micro."


@needs_namespaces
def test_without_any_interface_the_error_suggests_the_static_registry(machine: Host) -> None:
    assert "static" in str(machine.namespace().program().first)


@needs_namespaces
def test_where_another_program_holds_port_5353_registering_says_so(machine: Host) -> None:
    host = machine.namespace(ONLY_LOOPBACK)
    assert host.program("hold-port").first == "ready"
    party = host.party()
    assert "port 5353 cannot be bound" in str(party.tell("register", "greeter", "greeter-1", "127.0.0.1:4001"))
    assert party.tell("lookup", "greeter") == []


@needs_namespaces
@pytest.mark.parametrize("dialects", ["dialects=gomicro", "dialects=dns-sd", "dialects=dns-sd,gomicro"])
def test_what_is_bound_to_loopback_is_not_told_to_another_host(machine: Host, dialects: str) -> None:
    here, there = two_hosts(machine)
    one, local, remote = here.party(dialects), here.party(dialects), there.party(dialects)
    assert remote.tell("watch", "inner") == "watching"
    one.tell("register", "inner", "inner-1", "127.0.0.1:4001")
    one.tell("register", "outer", "outer-1", "10.99.0.1:4002")
    assert local.tell("lookup", "inner") == ["127.0.0.1:4001"]
    assert remote.tell("lookup", "outer") == ["10.99.0.1:4002"]
    assert remote.tell("lookup", "inner") == []
    assert remote.tell("services") == ["outer"]


@needs_namespaces
def test_a_process_that_stops_is_gone_from_another_host(machine: Host) -> None:
    here, there = two_hosts(machine)
    one, remote = here.party(), there.party()
    remote.tell("watch", "outer")
    one.tell("register", "outer", "outer-1", "10.99.0.1:4002")
    assert remote.tell("next") == ["create", "10.99.0.1:4002"]
    one.stop()
    assert remote.tell("next") == ["delete", "10.99.0.1:4002"]


def two_hosts(machine: Host) -> tuple[Host, Host]:
    """Return two namespaces joined by a cable."""
    here = machine.namespace("ip link set lo up")
    there = here.namespace("ip link set lo up")
    here.run(f"ip link add cable type veth peer name cable netns {there.pid}")
    here.run("ip addr add 10.99.0.1/24 dev cable; ip link set cable up; ip route add 224.0.0.0/4 dev cable")
    there.run("ip addr add 10.99.0.2/24 dev cable; ip link set cable up; ip route add 224.0.0.0/4 dev cable")
    return here, there
