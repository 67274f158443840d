"""Signals to stop."""

import os
import signal
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from micro_core._process.signals import ONE, EachOnce, stop_signals

pytestmark = pytest.mark.anyio


async def test_the_same_signal_twice_in_a_row_is_one() -> None:
    async def received() -> AsyncIterator[signal.Signals]:
        for each in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            yield each
        await anyio.sleep(2 * ONE)  # uvloop counts milliseconds
        yield signal.SIGTERM

    assert [each async for each in EachOnce(received())] == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


STOPS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def usual_handlers() -> Iterator[None]:
    """Let a program that was started in the background, and ignores SIGINT, be as one that was not."""
    inherited = [
        signal.signal(signal.SIGTERM, signal.SIG_DFL),
        signal.signal(signal.SIGINT, signal.default_int_handler),
    ]
    yield
    for number, handler in zip(STOPS, inherited, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("usual_handlers")
async def test_both_signals_are_received_until_the_context_is_left() -> None:
    before = [signal.getsignal(number) for number in STOPS]
    with anyio.fail_after(10), stop_signals() as received:
        for number in STOPS:
            os.kill(os.getpid(), number)
            assert await anext(received) == number
    assert [signal.getsignal(number) for number in STOPS] == before
