"""What we use of hypercorn beyond its documentation: a release that takes it away fails here, by name.

The dependency has an upper bound for the same reason (pyproject.toml).
"""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
from hypercorn.config import Config

PARAMETERS = {
    "hypercorn.app_wrappers.ASGIWrapper": ["app"],
    "hypercorn.asyncio.tcp_server.TCPServer": ["app", "loop", "config", "context", "state", "reader", "writer"],
    "hypercorn.trio.tcp_server.TCPServer": ["app", "config", "context", "state", "stream"],
    "hypercorn.asyncio.worker_context.WorkerContext": ["max_requests"],
    "hypercorn.trio.worker_context.WorkerContext": ["max_requests"],
}
SETTINGS = (
    "errorlog",
    "graceful_timeout",
    "h11_max_incomplete_size",
    "include_server_header",
    "keep_alive_max_requests",
    "keep_alive_timeout",
    "ssl_handshake_timeout",
)


@pytest.mark.parametrize("path", PARAMETERS)
def test_hypercorn_has_what_is_used_of_it(path: str) -> None:
    module, _, name = path.rpartition(".")
    part = getattr(import_module(module), name, None)
    assert part is not None, f"{path} is gone: the broker's listener serves connections with it"
    assert list(inspect.signature(part).parameters) == PARAMETERS[path], f"{path} is made of other parts"


@pytest.mark.parametrize("name", SETTINGS)
def test_hypercorn_has_the_settings_that_are_set(name: str) -> None:
    assert hasattr(Config(), name), f"hypercorn has no setting {name!r} any more: the broker's limits rely on it"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_connection_is_served_by_awaiting_its_server_which_is_told_to_end_by_an_event(backend: str) -> None:
    assert hasattr(import_module(f"hypercorn.{backend}.tcp_server").TCPServer, "__await__")
    context = import_module(f"hypercorn.{backend}.worker_context").WorkerContext(None)
    assert inspect.iscoroutinefunction(context.terminated.set)
