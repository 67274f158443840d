"""The life of a synchronous client: opened by its first use, closed or not, and left behind by a fork."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from micro_core import Closed, ConfigError, Conflict, Service, SyncClient, Timeout, endpoint, with_options
from micro_core.testing import MemoryNetwork

PARTS: dict[str, Any] = {"registry": "memory", "transport": "memory", "broker": "memory"}


@dataclass
class Name:
    text: str


class Taken(Conflict):
    pass


class Greeter:
    @endpoint(errors=[Taken])
    async def hello(self, request: Name) -> str:
        if not request.text:
            raise Taken("nobody to greet")
        return f"Hello {request.text}"

    async def repeat(self, request: Name) -> AsyncIterator[str]:
        for _ in range(3):
            yield f"Hello {request.text}"

    async def join(self, requests: AsyncIterator[Name]) -> str:
        return ", ".join([request.text async for request in requests])

    async def chat(self, requests: AsyncIterator[Name]) -> AsyncIterator[str]:
        async for request in requests:
            yield f"Hello {request.text}"


class PlainGreeter(Protocol):
    def hello(self, request: Name) -> str: ...
    def repeat(self, request: Name) -> Iterator[str]: ...
    def join(self, requests: Iterator[Name]) -> str: ...
    def chat(self, requests: Iterator[Name]) -> Iterator[str]: ...


@pytest.fixture
def client() -> Iterator[SyncClient]:
    """A client on a network of its own, with a service that runs in the client's event loop."""
    service = Service("greeter", linger=0, **PARTS)
    service.handler(Greeter())
    with MemoryNetwork().current(), SyncClient(**PARTS) as opened:
        with opened._portal().wrap_async_context_manager(service):
            yield opened


def test_a_proxy_has_the_methods_of_its_contract_and_waits(client: SyncClient) -> None:
    greeter: PlainGreeter = client.proxy("greeter", Greeter)
    assert greeter.hello(Name("Ada")) == "Hello Ada"
    assert greeter.hello(request=Name("Ada")) == "Hello Ada"
    assert list(greeter.repeat(Name("Ada"))) == ["Hello Ada"] * 3
    assert greeter.join(map(Name, "abc")) == "a, b, c"
    assert list(greeter.chat(map(Name, "ab"))) == ["Hello a", "Hello b"]


def test_a_proxy_raises_what_its_contract_names_and_takes_options(client: SyncClient) -> None:
    greeter: PlainGreeter = client.proxy("greeter", Greeter, timeout=3)
    with pytest.raises(Taken, match="nobody to greet"):
        greeter.hello(Name(""))
    with pytest.raises(Taken):
        with_options(greeter, retries=0).hello(Name(""))
    with pytest.raises(ConfigError, match="did you mean 'timeout'"):
        client.proxy("greeter", Greeter, timout=3)  # type: ignore[call-arg]


def test_a_client_opens_with_its_first_use_and_closes_twice() -> None:
    with MemoryNetwork().current():
        client = SyncClient(**PARTS)
        with pytest.raises(Timeout):
            client.call("greeter", "Greeter.Hello", None, timeout=0.1)
        client.close()
        client.close()
    with pytest.raises(Closed, match="make a new one"):
        client.call("greeter", "Greeter.Hello", None)


def test_a_client_that_was_never_used_closes() -> None:
    client = SyncClient(**PARTS)
    client.close()
    with pytest.raises(Closed, match="make a new one"):
        client.flush()


def run(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_client_that_nobody_closed_lets_the_program_end_and_is_closed() -> None:
    ended = run("""
        from micro_core import SyncClient
        from micro_core.testing import MemoryNetwork
        from micro_core.builtin.memory.registry import MemoryRegistry

        class Registry(MemoryRegistry):
            async def aclose(self):
                await super().aclose()
                print("closed")

        network = MemoryNetwork()
        client = SyncClient(registry=Registry(network=network), transport="memory", broker="memory")
        assert client.flush() == 0
        def requests():
            yield "a"
        try:
            with client.stream("nobody", "No.Body", str, requests(), timeout=0.1) as stream:
                list(stream)
        except Exception as error:
            print(type(error).__name__)
    """)
    assert (ended.stdout.split(), ended.returncode) == (["Timeout", "closed"], 0), ended.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_client_in_a_forked_process_says_where_it_stayed() -> None:
    ended = run("""
        import os
        from micro_core import Closed, SyncClient

        parts = dict(registry="memory", transport="memory", broker="memory")
        used, unused = SyncClient(**parts), SyncClient(**parts)
        assert used.flush() == 0
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                used.flush()
            except Closed as error:
                assert f"opened in process {parent}" in str(error) and "make a SyncClient after the fork" in str(error)
            else:
                raise SystemExit("it was not told")
            used.close()
            assert unused.flush() == 0
            raise SystemExit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert used.flush() == 0
    """)
    assert ended.returncode == 0, ended.stdout + ended.stderr
