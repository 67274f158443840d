"""`--workers`: one program in several processes, supervised."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from micro_core import Client, MicroError, Registry
from micro_core.testing import make_part

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """What is tested runs in other processes: one backend looks at them as well as another."""
    return "asyncio"


GREETER = f"greeter-of-workers-{os.getpid()}"


@asynccontextmanager
async def watching() -> AsyncIterator[Registry]:
    async with make_part("registry", "mdns", {"interface": "127.0.0.1"}) as registry:
        yield registry


async def nodes(registry: Registry, until: Callable[[set[str]], bool]) -> set[str]:
    """Return the ids of the greeter's nodes as soon as they are as they should be."""
    with anyio.fail_after(30):
        while True:
            ids = {node.id for record in await registry.lookup(GREETER) for node in record.nodes}
            if until(ids):
                return ids
            await anyio.sleep(0.05)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110 - processes are looked at from outside
            await anyio.sleep(0.05)


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def workers_of(supervisor: int) -> list[int]:
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text(encoding="ascii")
    return [int(child) for child in children.split()]


async def test_workers_register_a_node_each_and_one_that_dies_is_started_again(start: Any, tmp_path: Path) -> None:
    program = start(hello(tmp_path), "--workers", "2")
    async with watching() as registry, Client() as client:
        await nodes(registry, lambda ids: len(ids) == 2)
        first, second = workers_of(program.process.pid)
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(workers_of(program.process.pid)) == 2 and first not in workers_of(program.process.pid))
        assert second in workers_of(program.process.pid)
        replies = [await client.call(GREETER, "Greeter.Hello", "John") for _ in range(20)]
        assert replies == ["Hello John"] * 20
        output = await anyio.to_thread.run_sync(program.stop)
        assert "ended with status -9: started again in" in "".join([*program.output, output])
        await nodes(registry, lambda ids: len(ids) <= 1)  # a node that was killed said no goodbye


async def test_a_worker_that_fails_after_it_served_is_started_again(start: Any, tmp_path: Path) -> None:
    program = start(hello(tmp_path), "--workers", "2")
    async with watching() as registry, Client() as client:
        await nodes(registry, lambda ids: len(ids) == 2)
        before = set(workers_of(program.process.pid))
        with pytest.raises(MicroError):
            await client.call(GREETER, "Greeter.End", 3)
        await until(
            lambda: len(workers_of(program.process.pid)) == 2 != len(before & set(workers_of(program.process.pid)))
        )
        output = await anyio.to_thread.run_sync(program.stop)
        assert "ended with status 3: started again in" in "".join([*program.output, output])


async def test_workers_stop_when_their_supervisor_was_killed(start: Any, tmp_path: Path) -> None:
    program = start(hello(tmp_path), "--workers", "2")
    async with watching() as registry:
        await nodes(registry, lambda ids: len(ids) >= 2)
        workers = workers_of(program.process.pid)
        assert len(workers) == 2
        program.process.kill()
        await until(lambda: not any(is_alive(worker) for worker in workers))


async def test_a_worker_that_does_not_stop_is_killed_in_time(start: Any, tmp_path: Path) -> None:
    patience = "from micro_core._process import supervisor\nsupervisor.STOP_SECONDS = 1.0\n"
    program = start(hello(tmp_path, patience), "--workers", "2", "--linger", "0", "--drain_timeout", "0")
    async with watching() as registry:
        await nodes(registry, lambda ids: len(ids) >= 2)
        os.kill(workers_of(program.process.pid)[0], signal.SIGSTOP)
        output = await anyio.to_thread.run_sync(program.stop)
        assert "killing 1 workers, which have not stopped within 1 s" in "".join([*program.output, output])


HELLO = """
import os

from micro_core import Service, idempotent

service = Service(NAME)

@service.handler
class Greeter:
    @idempotent
    async def hello(self, name: str) -> str:
        return f"Hello {name}"

    async def end(self, status: int) -> None:
        os._exit(status)

service.run()
"""


def hello(folder: Path, before: str = "") -> str:
    """Write a program that subscribes to nothing: those of the examples would get the messages of other tests."""
    (folder / "hello.py").write_text(before + HELLO.replace("NAME", repr(GREETER)))
    return str(folder / "hello.py")


PROGRAM = """
import os
import sys
import anyio
from micro_core import Service

service = Service("broken", registry="memory", broker="memory")
first = os.environ.get("MICRO_WORKER", "").startswith("1:")

@service.before_start
async def fail() -> None:
    HOW

service.run()
"""


def run(
    tmp_path: Path, *flags: str, how: str = "sys.exit(3)", **environment: str
) -> "subprocess.CompletedProcess[str]":
    (tmp_path / "program.py").write_text(PROGRAM.replace("HOW", how))
    command = [sys.executable, str(tmp_path / "program.py"), *flags]
    environment = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.mark.parametrize(
    ("how", "told", "status"),
    [
        ("raise RuntimeError('nothing works')", 1, 1),
        ("sys.exit(3)", 3, 3),
        ("sys.exit(3) if first else await anyio.sleep_forever()", 3, 3),
        ("sys.exit(0)", 0, 1),
    ],
)
async def test_workers_of_which_one_ends_before_any_served_are_given_up(
    on_loopback: None, tmp_path: Path, how: str, told: int, status: int
) -> None:
    ended = run(tmp_path, "--workers", "2", how=how)
    assert ended.returncode == status
    assert f"ended before any served, with status {told}: giving up" in ended.stderr


async def test_workers_that_are_starting_stop_when_their_supervisor_was_killed(
    on_loopback: None, tmp_path: Path
) -> None:
    with starting_for_ever(tmp_path) as supervisor:
        await until(lambda: len(workers_of(supervisor.pid)) == 2)
        workers = workers_of(supervisor.pid)
        supervisor.kill()
        await until(lambda: not any(is_alive(worker) for worker in workers))


def starting_for_ever(tmp_path: Path) -> "subprocess.Popen[bytes]":
    (tmp_path / "program.py").write_text(PROGRAM.replace("HOW", "await anyio.sleep_forever()"))
    return subprocess.Popen([sys.executable, str(tmp_path / "program.py"), "--workers", "2"])


@pytest.mark.parametrize("inherited", ["4", "abc", "1:2", "1:99:4711", "1:2:4711"])
async def test_what_says_worker_and_is_none_runs_by_itself(on_loopback: None, tmp_path: Path, inherited: str) -> None:
    ended = run(tmp_path, how="sys.exit(3)", MICRO_WORKER=inherited)
    assert ended.returncode == 3


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--server_address", "127.0.0.1:8080"], "each has an address of its own, so that server_address="),
        (
            ["--server_advertise", "10.0.0.5:80"],
            "each has an address of its own, so that server_advertise='10.0.0.5:80' "
            "(from flag --server_advertise) cannot be; leave its port out",
        ),
        (["--server_id", "one"], "each has an id of its own, so that server_id='one' (from flag --server_id) cannot"),
    ],
)
async def test_what_workers_cannot_share_is_refused(
    on_loopback: None, tmp_path: Path, flags: list[str], told: str
) -> None:
    ended = run(tmp_path, "--workers", "2", *flags)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


async def test_a_number_of_workers_is_at_least_one(on_loopback: None, tmp_path: Path) -> None:
    assert "workers=0 (from flag --workers) is not valid" in run(tmp_path, "--workers", "0").stderr
