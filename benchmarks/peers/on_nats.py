"""The greeter as request and reply on nats-py, through a nats-server that shares the server's core."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats
import uvloop

from .messages import CODECS, answer, hello, understand, write
from .processes import nats_server


def serve() -> None:
    with nats_server() as address:
        uvloop.run(_serve(address))


async def _serve(address: str) -> None:
    connection = await nats.connect(f"nats://{address}")

    def handler(codec: str) -> Callable[[Any], Awaitable[None]]:
        async def handle(message: Any) -> None:
            await message.respond(answer(codec, message.data))

        return handle

    for codec in CODECS:
        await connection.subscribe(f"Greeter.{codec}", cb=handler(codec))
    await connection.flush()
    print(f"ready {address}", flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    request = hello(codec, size)
    connection = await nats.connect(f"nats://{address}")

    async def call() -> Any:
        return understand(codec, (await connection.request(f"Greeter.{codec}", write(request), timeout=5)).data)

    yield call
    await connection.close()
