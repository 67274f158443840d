"""The greeter on aiohttp, client and server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import uvloop
from aiohttp import web

from .messages import Greeting, Hello, decode_greeting, decode_hello, encode


async def hello(request: web.Request) -> web.Response:
    asked = decode_hello(await request.read())
    return web.Response(body=encode(Greeting(f"Hello {asked.name}")), content_type="application/json")


def serve() -> None:
    uvloop.run(_serve())


async def _serve() -> None:
    application = web.Application()
    application.router.add_post("/Greeter/Hello", hello)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"ready {host}:{port}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def caller(address: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    url, body = f"http://{address}/Greeter/Hello", Hello("John")
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:

        async def call() -> Greeting:
            async with session.post(url, data=encode(body), headers=headers) as response:
                return decode_greeting(await response.read())

        yield call
