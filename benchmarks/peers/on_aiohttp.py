"""The greeter on aiohttp, client and server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import uvloop
from aiohttp import web

from .messages import CODECS, answer, hello, understand, write


def handler(codec: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=answer(codec, await request.read()), content_type=f"application/{codec}")

    return handle


def serve() -> None:
    uvloop.run(_serve())


async def _serve() -> None:
    application = web.Application(client_max_size=64 << 20)
    for codec in CODECS:
        application.router.add_post(f"/Greeter/{codec}", handler(codec))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"ready {host}:{port}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    url, request = f"http://{address}/Greeter/{codec}", hello(codec, size)
    headers = {"Content-Type": f"application/{codec}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:

        async def call() -> Any:
            async with session.post(url, data=write(request), headers=headers) as response:
                return understand(codec, await response.read())

        yield call
