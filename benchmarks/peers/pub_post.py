"""Publishing as one POST for each message: `subscribe COUNT` on uvicorn, or `publish COUNT ADDRESS,…` with httpx."""

import json
import sys
import time
from itertools import repeat
from typing import Any

import anyio
import httpx

from .asgi import Uvicorn
from .messages import decode_hello, encode, hello

AT_ONCE = 16


def subscribe(expected: int) -> None:
    received = 0

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal received
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        decode_hello(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        received += 1
        if received == expected:
            print(json.dumps({"received": received, "at": time.monotonic()}), flush=True)
            server.should_exit = True

    server = Uvicorn(application)
    server.run()


async def publish(count: int, addresses: str) -> None:
    message = hello("json", 64)
    started = time.monotonic()
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client, anyio.create_task_group() as tasks:
        for address in addresses.split(","):
            remaining = iter(repeat(None, count))
            for _ in range(AT_ONCE):
                tasks.start_soon(post, client, f"http://{address}/greetings", message, remaining)
    print(json.dumps({"at": started}))


async def post(client: httpx.AsyncClient, url: str, message: Any, remaining: Any) -> None:
    for _ in remaining:
        (await client.post(url, content=encode(message))).raise_for_status()


if __name__ == "__main__":
    if sys.argv[1] == "subscribe":
        subscribe(int(sys.argv[2]))
    else:
        anyio.run(publish, int(sys.argv[2]), sys.argv[3], backend_options={"use_uvloop": True})
