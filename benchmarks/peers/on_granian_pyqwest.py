"""The greeter on granian (Rust), called by pyqwest (Rust)."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pyqwest

from .messages import hello, understand, write
from .processes import answers, free_port


def serve() -> None:
    port = free_port()
    arguments = ["--interface", "asginl", "--loop", "uvloop", "--no-access-log", "--no-ws", "--port", str(port)]
    command = [sys.executable, "-m", "granian", "--log-level", "error", *arguments, "peers.asgi:application"]
    with subprocess.Popen(command) as server:
        while not answers(port):
            time.sleep(0.05)
        print(f"ready 127.0.0.1:{port}", flush=True)
        server.wait()


@asynccontextmanager
async def caller(address: str, codec: str, size: int) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Yield a function that makes one call."""
    url, request = f"http://{address}/Greeter/{codec}", hello(codec, size)
    headers = {"Content-Type": f"application/{codec}"}
    client = pyqwest.Client()

    async def call() -> Any:
        return understand(codec, bytes((await client.post(url, headers, write(request))).content))

    yield call
