"""Processes of services whose code does not end when it is asked to: they end in time, with a status that says so."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAM = """
import threading, time
import anyio
from contextlib import asynccontextmanager
from micro_core import Client, Service

service = Service("stuck", registry="memory", transport="memory", broker="memory", linger=0, drain_timeout=0)
never = threading.Event()

@service.handler
class Stuck:
    async def in_a_thread(self, text: str) -> None:
        print("begun", flush=True)
        await anyio.to_thread.run_sync(never.wait)

    async def deaf(self, text: str) -> None:
        print("begun", flush=True)
        while True:
            try:
                await anyio.sleep_forever()
            except BaseException:
                pass

    async def holds_the_loop(self, text: str) -> None:
        print("begun", flush=True)
        while True:
            time.sleep(0.01)

    async def polite(self, text: str) -> None:
        print("begun", flush=True)
        await anyio.sleep_forever()

@asynccontextmanager
async def lifespan(service):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(failing)
        yield

async def failing():
    await anyio.sleep(0.1)
    raise OSError("the line is cut")

@service.after_start
async def call():
    service.client.start_soon(service.client.call, "stuck", "ENDPOINT", "x")

MORE
service.run(backend="BACKEND")
print("after run", flush=True)
"""


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(backend: str, endpoint: str, more: str = "") -> subprocess.Popen[str]:
    program = PROGRAM.replace("ENDPOINT", endpoint).replace("BACKEND", backend).replace("MORE", textwrap.dedent(more))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def begun(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"


@pytest.mark.parametrize("endpoint", ["Stuck.InAThread", "Stuck.Deaf", "Stuck.HoldsTheLoop"])
def test_code_that_does_not_end_is_ended_after_the_first_signal(backend: str, endpoint: str) -> None:
    with start(backend, endpoint) as process:
        begun(process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)  # of which 5 s are the rule's
    assert process.returncode == 1, err
    assert "ending the process, with status 1" in err
    assert "does not end:" in err
    assert "after run" not in out


@pytest.mark.parametrize("endpoint", ["Stuck.InAThread", "Stuck.Deaf", "Stuck.HoldsTheLoop"])
def test_code_that_does_not_end_is_ended_at_once_by_a_second_signal(backend: str, endpoint: str) -> None:
    more = """
    import micro_core._process.run
    micro_core._process.run.AFTER_DRAIN = 600.0
    """
    with start(backend, endpoint, more) as process:
        begun(process)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)  # another one: the same could come as one
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert "ending the process, with status 1" in err


def test_a_process_without_output_is_ended_too(backend: str) -> None:
    more = """
    import sys

    @service.handler
    async def mute(text: str) -> None:
        print("begun", flush=True)
        sys.stdout = sys.stderr = None
        never.wait()
    """
    with start(backend, "Stuck.Mute", more) as process:
        begun(process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 1


def test_a_handler_that_can_be_cancelled_ends_in_order(backend: str) -> None:
    with start(backend, "Stuck.Polite") as process:
        begun(process)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == "after run\n"
    assert "ending the process" not in err


def test_a_lifespan_that_fails_while_the_service_runs_ends_the_process(backend: str) -> None:
    with start(backend, "Stuck.Polite", "service._lifespan = lifespan") as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "service stuck failed while it was open" in err
    assert err.rstrip().endswith("OSError: the line is cut")


def test_a_handler_that_holds_the_event_loop_up_is_named_with_its_stack(backend: str) -> None:
    more = """
    @service.handler
    async def slow(text: str) -> None:
        time.sleep(3.0)
        print("begun", flush=True)
    """
    with start(backend, "Stuck.Slow", more) as process:
        begun(process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert err.count("handler 'Stuck.Slow' holds the event loop up for more than 0.5 s") == 1
    assert "in slow" in err
    assert "last resort" not in err


def test_an_event_loop_that_nobody_holds_up_is_not_warned_of(backend: str) -> None:
    with start(backend, "Stuck.Polite") as process:
        begun(process)
        time.sleep(2.0)  # some signs of life
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "holds the event loop up" not in err


def test_a_misspelt_variable_is_warned_of_once(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICRO_SERVER_NAM", "x")
    with start(backend, "Stuck.Polite") as process:
        begun(process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    # Once by the service; its client is the service's own.
    assert err.count("variable MICRO_SERVER_NAM is not known") == 1
