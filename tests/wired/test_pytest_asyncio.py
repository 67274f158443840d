"""pytest-asyncio's fixtures, which are set up in one task and torn down in another, hold services and clients."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SETTINGS = """
    [pytest]
    asyncio_mode = auto
    asyncio_default_fixture_loop_scope = module
    asyncio_default_test_loop_scope = module
    filterwarnings = error
"""
REAL = """
    import pytest
    from micro_core import Client, Service

    REGISTRY = "mdns://?interface=127.0.0.1"
    heard = []


    @pytest.fixture(scope="module")
    async def service():
        service = Service("greeter", registry=REGISTRY, linger=0)

        @service.handler
        async def hello(name: str) -> str:
            return f"Hello {name}"

        @service.subscriber("greetings", queue="all")
        async def on_greeting(name: str) -> None:
            heard.append(name)

        async with service:
            yield service


    @pytest.fixture
    async def client(service):
        async with Client(registry=REGISTRY) as client:
            yield client


    async def test_it_calls(client):
        assert await client.call("greeter", "Greeter.Hello", "Ada") == "Hello Ada"


    async def test_it_publishes(client):
        await client.publish("greetings", "Ada", confirm=True)
        assert heard == ["Ada"]


    async def test_a_service_calls_itself(service):
        assert await service.client.call("greeter", "Greeter.Hello", "Bob") == "Hello Bob"
"""
MEMORY = """
    import pytest
    from micro_core.testing import world


    @pytest.fixture
    async def here():
        async with world() as here:
            yield here


    @pytest.fixture
    async def service(here):
        service = here.service("greeter", linger=0)

        @service.handler
        async def hello(name: str) -> str:
            return f"Hello {name}"

        async with service:
            yield service


    @pytest.fixture
    async def client(here, service):
        async with here.client() as client:
            yield client


    @pytest.mark.parametrize("name", ["Ada", "Bob"])
    async def test_it_calls(client, name):
        assert await client.call("greeter", "Greeter.Hello", name) == f"Hello {name}"
"""


@pytest.mark.parametrize(("suite", "passed"), [(REAL, 3), (MEMORY, 2)], ids=["real parts", "memory parts"])
def test_fixtures_of_pytest_asyncio_hold_services_and_clients(
    tmp_path: Path, on_loopback: None, suite: str, passed: int
) -> None:
    (tmp_path / "pytest.ini").write_text(textwrap.dedent(SETTINGS))
    (tmp_path / "test_suite.py").write_text(textwrap.dedent(suite))
    arguments = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert f"{passed} passed" in run.stdout.splitlines()[-1], run.stdout + run.stderr
    assert run.returncode == 0, run.stdout + run.stderr
