"""A process that runs one service: flags, logging, event loop, signals."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import anyio.abc

from micro_core._process.signals import stop_signals
from micro_core._process.supervisor import Worker, check_workers, supervise
from micro_core.config import Settings
from micro_core.errors import ConfigError, PluginError, RegistryError

__all__ = ["run_process"]

log = logging.getLogger("micro.service")


def run_process(
    service: AbstractAsyncContextManager[object],
    serves: Callable[[], bool],
    backend: str,
    settings: Callable[[], Settings],
) -> None:
    """Run a service until SIGTERM or SIGINT, then stop it in order; a second signal stops it at once.

    So does a first one that comes before it ``serves``.
    Where the settings ask for several workers, this process supervises them instead.
    Raises SystemExit with the sentence to show where a setting or a plugin is wrong.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    worker = Worker.of_this_process()
    try:
        if worker is None:
            known = settings()
            check_workers(known)
            if known.workers > 1:
                supervise(known.workers)
                return
        anyio.run(_until_signal, service, serves, worker, backend=backend, backend_options=_options(backend))
    except (ConfigError, PluginError, RegistryError) as error:
        raise SystemExit(str(error)) from error


def _options(backend: str) -> dict[str, object]:
    if backend == "asyncio" and sys.platform != "win32" and importlib.util.find_spec("uvloop") is not None:
        return {"use_uvloop": True}
    return {}


async def _until_signal(
    service: AbstractAsyncContextManager[object], serves: Callable[[], bool], worker: Worker | None
) -> None:
    """Run the service in a scope that signals cancel; its exceptions leave with their own type."""
    failure = None
    async with anyio.create_task_group() as tasks:
        stop = _Stop(tasks.cancel_scope, serves)
        await tasks.start(stop.on_signals)  # before anybody can learn that the service is there
        if worker is not None:
            tasks.start_soon(stop.with_supervisor, worker)
        try:
            async with service:
                if worker is not None:
                    worker.tell_serving()
                await stop.asked.wait()
                log.info("stopping: %r", service)
        except (Exception, SystemExit) as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class _Stop:
    """Asks a service to stop: in order where it serves, at once where it does not yet, or when it was asked before."""

    def __init__(self, scope: anyio.CancelScope, serves: Callable[[], bool]) -> None:
        self._scope = scope
        self._serves = serves
        self.asked = anyio.Event()

    async def on_signals(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        with stop_signals() as received:
            task_status.started()
            async for each in received:
                if self.asked.is_set():
                    log.warning("second signal %s: stopping at once", each)
                    self._scope.cancel()
                self._ask()

    async def with_supervisor(self, worker: Worker) -> None:
        await worker.supervisor_gone()
        log.warning("the supervisor is gone: worker %d stops", worker.number)
        self._ask()

    def _ask(self) -> None:
        if not self.asked.is_set() and not self._serves():
            log.info("stopping before anything is served")
            self._scope.cancel()
        self.asked.set()
