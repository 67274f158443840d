"""The greeter on uvicorn, with httptools and uvloop, called by httpx."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx

from .asgi import Uvicorn, application
from .messages import hello, understand, write


def serve() -> None:
    Uvicorn(application).run()


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    url, request = f"http://{address}/Greeter/{codec}", hello(codec, size)
    headers = {"Content-Type": f"application/{codec}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=30, limits=limits, trust_env=False) as client:

        async def call() -> Any:
            return understand(codec, (await client.post(url, content=write(request), headers=headers)).content)

        yield call
