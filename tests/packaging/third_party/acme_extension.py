"""A good extension: middleware, a lifespan, and a wrapper round every registry."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from micro_core import hookimpl


@hookimpl
def client_middleware() -> Any:
    async def traced(call: Any, call_next: Any) -> Any:
        return await call_next(call)

    return traced


@hookimpl
def lifespan(service: Any) -> Any:
    @asynccontextmanager
    async def life() -> AsyncIterator[None]:
        yield

    return life()


@hookimpl(wrapper=True)
def make_registry(name: str) -> Iterator[None]:
    made = yield
    sys.stdout.write(f"wrapped {name}\n")
    return made
