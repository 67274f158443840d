"""Signals to stop."""

import os
import signal
import time
from collections.abc import Iterator

import anyio
import pytest

from micro_core._process.signals import ONE, stop_signals

pytestmark = pytest.mark.anyio


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


@pytest.mark.usefixtures("usual_handlers")
async def test_the_same_signal_twice_in_a_row_is_one() -> None:
    with anyio.fail_after(10), stop_signals() as received:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        assert [await anext(received), await anext(received)] == [signal.SIGTERM, signal.SIGINT]
        time.sleep(2 * ONE)  # noqa: ASYNC251 - no time of the event loop
        os.kill(os.getpid(), signal.SIGTERM)
        assert await anext(received) == signal.SIGTERM


@pytest.mark.usefixtures("usual_handlers")
async def test_a_signal_is_noticed_at_once_while_the_event_loop_is_held_up() -> None:
    noticed: list[int] = []  # no await comes between the signal and the look at it
    with stop_signals(lambda: noticed.append(1)) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert noticed == [1]
        with anyio.fail_after(10):
            assert await anext(received) == signal.SIGTERM
