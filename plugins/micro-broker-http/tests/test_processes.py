"""Subscribers in real processes that are frozen or killed: no message is lost."""

import json
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from micro_broker_http import HttpBroker
from micro_broker_http.wire.naming import records

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("subscriber_process.py")
COUNT = 300


class Remote:
    """A subscriber process, and what it has handled."""

    def __init__(self, process):
        self._process = process
        self._lines = self._read()
        self.handled = []

    async def _read(self):
        rest = b""
        async for piece in self._process.stdout:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield line

    async def start(self, registry, queue):
        node = json.loads(await anext(self._lines))
        self.records = records(id=node["id"], topic="t", queue=queue, address=node["address"])
        for record in self.records:
            await registry.register(record)

    async def follow(self):
        async for line in self._lines:
            self.handled.append(line)

    async def handle(self, count):
        while len(self.handled) < count:
            self.handled.append(await anext(self._lines))

    async def handle_until(self, body):
        while body not in self.handled:
            self.handled.append(await anext(self._lines))

    def send(self, number):
        self._process.send_signal(number)


@asynccontextmanager
async def remote(registry, queue=""):
    command = [sys.executable, str(SCRIPT), queue, "asyncio"]
    async with await anyio.open_process(command, stdin=None, stderr=None) as process:
        subscriber = Remote(process)
        try:
            with anyio.fail_after(30):
                await subscriber.start(registry, queue)
            yield subscriber
        finally:
            await subscriber._lines.aclose()
            with suppress(ProcessLookupError):
                process.kill()


async def test_a_frozen_subscriber_loses_nothing_and_handles_nothing_twice(registry, message):
    async with HttpBroker(registry) as broker, remote(registry) as subscriber:
        for number in range(COUNT):
            await broker.publish("t", message(b"%d" % number))
            if number == COUNT // 2:
                await subscriber.handle(10)
                subscriber.send(signal.SIGSTOP)
        await anyio.sleep(1)
        assert broker.stats().waiting > 0
        subscriber.send(signal.SIGCONT)
        with anyio.fail_after(30):
            await broker.flush()
            await subscriber.handle(COUNT)
    assert subscriber.handled == [b"%d" % number for number in range(COUNT)]
    assert broker.stats().dropped == 0


async def test_what_a_killed_member_of_a_queue_had_goes_to_another(registry, message):
    async with HttpBroker(registry) as broker, remote(registry, "q") as first, remote(registry, "q") as second:
        for number in range(COUNT):
            await broker.publish("t", message(b"%d" % number))
        await first.handle(1)
        first.send(signal.SIGKILL)
        with anyio.fail_after(30):
            await first.follow()  # up to its end
            await broker.flush()
            for record in first.records:
                await registry.deregister(record)
            await broker.publish("t", message(b"end"), confirm=True)
            await second.handle_until(b"end")
    assert set(first.handled) | set(second.handled) == {b"end", *(b"%d" % number for number in range(COUNT))}
    assert broker.stats().dropped == 0
