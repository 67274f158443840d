"""A process that runs one service: flags, logging, event loop, signals."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.abc

from micro_core._signals import stop_signals
from micro_core._workers import Worker, check_workers, supervise
from micro_core.config import Settings
from micro_core.errors import ConfigError, PluginError, RegistryError

__all__ = ["run_process"]

log = logging.getLogger("micro.service")


def run_process(service: AbstractAsyncContextManager[Any], backend: str, settings: Callable[[], Settings]) -> None:
    """Run a service until SIGTERM or SIGINT, then stop it in order; a second signal stops it at once.

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
        anyio.run(_until_signal, service, worker, backend=backend, backend_options=_options(backend))
    except (ConfigError, PluginError, RegistryError) as error:
        raise SystemExit(str(error)) from error


def _options(backend: str) -> dict[str, Any]:
    if backend == "asyncio" and sys.platform != "win32" and importlib.util.find_spec("uvloop") is not None:
        return {"use_uvloop": True}
    return {}


async def _until_signal(service: AbstractAsyncContextManager[Any], worker: Worker | None) -> None:
    """Run the service in a scope that the second signal cancels; its exceptions leave with their own type."""
    stop, failure = anyio.Event(), None
    async with anyio.create_task_group() as tasks:
        await tasks.start(_listen, stop, tasks.cancel_scope)  # before anybody can learn that the service is there
        if worker is not None:
            tasks.start_soon(_stop_with_supervisor, worker, stop)
        try:
            async with service:
                if worker is not None:
                    worker.tell_serving()
                await stop.wait()
                log.info("stopping: %r", service)
        except (Exception, SystemExit) as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _stop_with_supervisor(worker: Worker, stop: anyio.Event) -> None:
    await worker.supervisor_gone()
    log.warning("the supervisor is gone: worker %d stops", worker.number)
    stop.set()


async def _listen(
    stop: anyio.Event, scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with stop_signals() as received:
        task_status.started()
        async for each in received:
            if stop.is_set():
                log.warning("second signal %s: stopping at once", each)
                scope.cancel()
            stop.set()
