"""Signals to stop."""

import os
import signal
from collections.abc import AsyncIterator

import anyio
import pytest

from micro_core._signals import ONE, EachOnce, stop_signals

pytestmark = pytest.mark.anyio


async def test_the_same_signal_twice_in_a_row_is_one() -> None:
    async def received() -> AsyncIterator[signal.Signals]:
        for each in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            yield each
        await anyio.sleep(2 * ONE)  # uvloop counts milliseconds
        yield signal.SIGTERM

    assert [each async for each in EachOnce(received())] == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]


async def test_both_signals_are_received_until_the_context_is_left() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with anyio.fail_after(10), stop_signals() as received:
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            assert await anext(received) == number
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
