"""What only some systems have is refused with a sentence, or done without, on the others."""

from __future__ import annotations

import signal

import pytest

from micro_core import ConfigError
from micro_core._process import supervisor
from micro_core._process.signals import stop_signals
from micro_core.config import load

pytestmark = pytest.mark.anyio


def test_workers_are_refused_where_processes_inherit_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_INHERITS_SOCKETS", False)
    settings = load(environ={"MICRO_WORKERS": "4"})

    with pytest.raises(
        ConfigError, match=r"workers=4 \(from variable MICRO_WORKERS\) needs .* start the program several"
    ):
        supervisor.check_workers(settings)
    supervisor.check_workers(load(environ={}))


async def test_stop_signals_need_nothing_of_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' event loops have no handlers of signals: those of Python do."""
    for name in ("SIGKILL", "SIGSTOP", "SIGHUP", "SIGCHLD"):
        monkeypatch.delattr(signal, name)

    with stop_signals() as received:
        signal.raise_signal(signal.SIGTERM)
        assert await anext(received) is signal.SIGTERM
