"""What every test of this repository runs under: each async backend, and the rule that a test leaves nothing behind.

Shared by `tests/` and `plugins/*/tests`; imports nothing of the tree, so that it serves tests of installed wheels too.
"""

import asyncio
import asyncio.runners
import gc
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

DESCRIPTORS = Path("/proc/self/fd")
THREADS_KEPT_FOR_REUSE = ("Trio thread",)  # trio's cache ends them after ten idle seconds
GRACE = 1.0  # seconds that a thread told to stop may take

_tasks_left: list[str] = []


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
        pytest.param(("trio", {}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Run an async test on asyncio, on asyncio with uvloop, and on trio."""
    return request.param


def pytest_configure(config: pytest.Config) -> None:
    """Record tasks left when an event loop closes; where wheels are under test, refuse to test the tree instead."""
    asyncio.runners._cancel_all_tasks = _record_and_cancel  # type: ignore[attr-defined]
    _open_what_uvloop_keeps()
    if os.environ.get("MICRO_TESTS_FROM_WHEELS"):
        import micro_core

        origin = Path(micro_core.__file__ or "").resolve()
        if not origin.is_relative_to(Path(sys.prefix).resolve()):
            raise pytest.UsageError(f"wheels are to be tested, but micro_core was imported from {origin}")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves file descriptors, threads or asyncio tasks open."""
    _tasks_left.clear()
    descriptors, threads = _open_descriptors(), set(threading.enumerate())
    yield
    left = [*_tasks_left, *_threads_left(threads), *_descriptors_left(descriptors)]
    if left:
        pytest.fail("left behind by this test:\n  " + "\n  ".join(left), pytrace=False)


_cancel_all_tasks = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]


def _record_and_cancel(loop: asyncio.AbstractEventLoop) -> None:
    """Stand in for the standard library's clean-up, which would hide forgotten tasks by cancelling them."""
    _tasks_left.extend(f"task {task!r}" for task in asyncio.all_tasks(loop) if not _belongs_to_the_test_runner(task))
    _cancel_all_tasks(loop)


def _open_what_uvloop_keeps() -> None:
    """Run one loop, so that the pipe that uvloop keeps for the whole process is not taken for the first test's leak."""
    try:
        import uvloop
    except ImportError:  # where it does not exist, only the tests that ask for it fail
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.sleep(0))


def _belongs_to_the_test_runner(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "") == "TestRunner._run_tests_and_fixtures"


def _threads_left(before: set[threading.Thread]) -> list[str]:
    started = [t for t in threading.enumerate() if t not in before and not t.name.startswith(THREADS_KEPT_FOR_REUSE)]
    for thread in started:
        thread.join(GRACE)
    return [f"thread {thread!r}" for thread in started if thread.is_alive()]


def _descriptors_left(before: set[tuple[str, str]]) -> list[str]:
    if not _open_descriptors() - before:
        return []
    gc.collect()  # what only garbage held is closed here, and reported as a ResourceWarning
    return [f"file descriptor {number}: {target}" for number, target in sorted(_open_descriptors() - before)]


def _open_descriptors() -> set[tuple[str, str]]:
    """Return number and target of every open descriptor that matters; empty where the system does not list them."""
    found = set()
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            target = os.readlink(entry)
        except OSError:  # the descriptor of this very listing
            continue
        if not target.startswith(("/dev/", "/proc/")):
            found.add((entry.name, target))
    return found
