"""A process that runs one service: flags, logging, event loop, signals."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import anyio
import anyio.abc

from micro_core._process.last_resort import AFTER_DRAIN, LastResort
from micro_core._process.loop_watch import loop_watched
from micro_core._process.signals import stop_signals
from micro_core._process.supervisor import Worker, check_workers, supervise
from micro_core.config import Settings
from micro_core.errors import ConfigError, PluginError, RegistryError

__all__ = ["run_process"]

log = logging.getLogger("micro.service")


def run_process(
    service: AbstractAsyncContextManager[object],
    serves: Callable[[], bool],
    ended: Callable[[], Awaitable[None]],
    backend: str,
    settings: Callable[[], Settings],
) -> None:
    """Run a service until SIGTERM or SIGINT, then stop it in order; a second signal stops it at once.

    So does a first one that comes before it ``serves``; and where it has ``ended`` by itself, the process ends with the
    exception. What does not stop is ended with the process (`LastResort`).
    Where the settings ask for several workers, this process supervises them instead.
    Raises SystemExit with the sentence to show where a setting or a plugin is wrong.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    worker = Worker.of_this_process()
    try:
        known = settings()
        patience = known.linger + known.drain_timeout
        if worker is None:
            check_workers(known)
            if known.workers > 1:
                supervise(known.workers, patience)
                return
        with LastResort(patience + AFTER_DRAIN) as last_resort:
            stop = _Stop(serves, ended, last_resort)
            run = partial(_until_signal, service, stop, worker, known.loop_warning)
            anyio.run(run, backend=backend, backend_options=_options(backend))
    except (ConfigError, PluginError, RegistryError) as error:
        raise SystemExit(str(error)) from error


def _options(backend: str) -> dict[str, object]:
    if backend == "asyncio" and sys.platform != "win32" and importlib.util.find_spec("uvloop") is not None:
        return {"use_uvloop": True}
    return {}


async def _until_signal(
    service: AbstractAsyncContextManager[object], stop: _Stop, worker: Worker | None, loop_warning: float
) -> None:
    """Run the service in a scope that signals cancel; its exceptions leave with their own type."""
    failure = None
    async with anyio.create_task_group() as tasks:
        stop.scope = tasks.cancel_scope
        await tasks.start(stop.on_signals)  # before anybody can learn that the service is there
        if worker is not None:
            tasks.start_soon(stop.with_supervisor, worker)
        try:
            async with service:
                tasks.start_soon(stop.when_ended)
                if worker is not None:
                    worker.tell_serving()
                with loop_watched(loop_warning):
                    await stop.asked.wait()
                log.info("stopping: %r", service)
        except (Exception, SystemExit) as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Stop:
    """Asks a service to stop: in order where it serves, at once where it does not yet, or when it was asked before."""

    def __init__(
        self, serves: Callable[[], bool], ended: Callable[[], Awaitable[None]], last_resort: LastResort
    ) -> None:
        self.scope: anyio.CancelScope
        """Set where the event loop runs."""
        self._serves = serves
        self._ended = ended
        self._last_resort = last_resort
        self.asked = anyio.Event()

    async def on_signals(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with stop_signals(self._last_resort.signal_came) as received:
            task_status.started()
            async for each in received:
                if self.asked.is_set():
                    log.warning("second signal %s: stopping at once", each)
                    self.scope.cancel()
                self._ask()

    async def when_ended(self) -> None:
        await self._ended()
        self.asked.set()

    async def with_supervisor(self, worker: Worker) -> None:
        await worker.supervisor_gone()
        log.warning("the supervisor is gone: worker %d stops", worker.number)
        self._ask()

    def _ask(self) -> None:
        if not self.asked.is_set() and not self._serves():
            log.info("stopping before anything is served")
            self.scope.cancel()
        self.asked.set()
