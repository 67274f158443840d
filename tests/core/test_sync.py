"""The synchronous client, beside a service on real sockets in another thread's event loop."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from micro_core import NotFound, Service, SyncClient
from micro_core.testing import MemoryNetwork


@dataclass
class Name:
    text: str


class Greeter:
    async def hello(self, request: Name) -> str:
        if not request.text:
            raise NotFound("nobody to greet")
        return f"Hello {request.text}"

    async def repeat(self, request: Name) -> AsyncIterator[str]:
        for _ in range(3):
            yield f"Hello {request.text}"

    async def chat(self, requests: AsyncIterator[Name]) -> AsyncIterator[str]:
        async for request in requests:
            yield f"Hello {request.text}"


PARTS: dict[str, Any] = {"registry": "memory", "transport": "memory", "broker": "memory"}


@pytest.fixture
def client() -> Iterator[tuple[SyncClient, list[str]]]:
    """A client on a network of its own, with a service that runs in the client's event loop."""
    received: list[str] = []
    service = Service("greeter", linger=0, **PARTS)
    service.handler(Greeter())

    @service.subscriber("names")
    async def on_name(message: Name) -> None:
        received.append(message.text)

    with MemoryNetwork().current(), SyncClient(**PARTS) as opened:
        with opened._portal().wrap_async_context_manager(service):
            yield opened, received


def test_calls_and_their_errors(client: tuple[SyncClient, list[str]]) -> None:
    assert client[0].call("greeter", "Greeter.Hello", Name("Ada"), str) == "Hello Ada"
    with pytest.raises(NotFound, match="nobody to greet"):
        client[0].call("greeter", "Greeter.Hello", Name(""), str)


def test_streams(client: tuple[SyncClient, list[str]]) -> None:
    with client[0].stream("greeter", "Greeter.Repeat", str, [Name("Ada")]) as stream:
        assert list(stream) == ["Hello Ada"] * 3
    with client[0].stream("greeter", "Greeter.Chat", str) as stream:
        stream.send(Name("A"))
        answers = iter(stream)
        assert next(answers) == "Hello A"
        stream.send(Name("B"))
        stream.close_send()
        assert list(answers) == ["Hello B"]


def test_many_requests_are_sent_while_the_answers_are_read(client: tuple[SyncClient, list[str]]) -> None:
    requests = (Name(str(number)) for number in range(2000))
    with client[0].stream("greeter", "Greeter.Chat", str, requests) as stream:
        assert list(stream) == [f"Hello {number}" for number in range(2000)]


@pytest.mark.parametrize("read", [True, False])
def test_an_exception_of_the_requests_comes_out_of_the_stream(client: tuple[SyncClient, list[str]], read: bool) -> None:
    def requests() -> Iterator[Name]:
        yield Name("Ada")
        raise ValueError("no more names")

    with pytest.raises(ValueError, match="no more names"):  # noqa: PT012
        with client[0].stream("greeter", "Greeter.Chat", str, requests()) as stream:
            if read:
                list(stream)
            while stream._error is None:
                time.sleep(0.001)


def test_a_stream_is_left_though_its_requests_are_not_at_their_end(client: tuple[SyncClient, list[str]]) -> None:
    released = threading.Event()

    def requests() -> Iterator[Name]:
        yield Name("Ada")
        released.wait(30)

    with client[0].stream("greeter", "Greeter.Chat", str, requests()) as stream:
        assert next(iter(stream)) == "Hello Ada"
    released.set()


def test_publishing(client: tuple[SyncClient, list[str]]) -> None:
    client[0].publish("names", Name("Ada"), confirm=True)
    assert client[0].flush() == 0
    assert client[1] == ["Ada"]


def test_calls_of_several_threads(client: tuple[SyncClient, list[str]]) -> None:
    answers: list[str] = []

    def call(number: int) -> None:
        answers.append(client[0].call("greeter", "Greeter.Hello", Name(str(number)), str))

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(answers) == [f"Hello {number}" for number in range(8)]
