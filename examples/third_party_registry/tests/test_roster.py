from typing import Any

import anyio
import pytest
from micro_registry_roster import RosterRegistry

from micro_conformance.proxy import TcpProxy
from micro_core import SYNC, Closed, ConfigError, Node, Record, RegistryError, Tls
from micro_core.testing import make_part

GREETER = Record(name="greeter", version="1", nodes=(Node(id="greeter-1", address="127.0.0.1:1"),))


def made(server: str, path: str = "/tests", tls: Tls | None = None, **options: str) -> RosterRegistry:
    registry = make_part("registry", f"roster://{server}{path}", options, tls=tls or Tls())
    assert isinstance(registry, RosterRegistry)
    return registry


@pytest.mark.anyio
async def test_spaces_do_not_see_each_other(server: Any, secret: str) -> None:
    one, two = (made(server.address, path, secret=secret) for path in ("/one", "/two"))
    async with one, two:
        await one.register(GREETER)
        assert list(await one.lookup("greeter")) == [GREETER]
        assert list(await two.lookup("greeter")) == []


@pytest.mark.anyio
async def test_a_wrong_secret_is_told_as_what_waiting_does_not_mend(server: Any) -> None:
    async with made(server.address, secret="wrong") as registry:
        for use in (registry.register(GREETER), registry.services()):
            with pytest.raises(RegistryError, match="the secret is wrong") as raised:
                await use
            assert raised.value.permanent


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["cut", "hang"])
async def test_a_watch_is_told_that_its_server_was_lost(server: Any, secret: str, fault: str) -> None:
    with TcpProxy(server.address) as proxy:
        async with made(proxy.address, secret=secret, timeout="300ms") as registry, registry.watch() as changes:
            while await anext(changes) != SYNC:
                pass
            getattr(proxy, fault)()
            with pytest.raises(RegistryError):
                await anext(changes)


@pytest.mark.anyio
async def test_closing_ends_watches_and_waits_for_no_server_that_hangs(server: Any, secret: str) -> None:
    with TcpProxy(server.address) as proxy:
        async with made(proxy.address, secret=secret, timeout="300ms") as registry, registry.watch("x") as changes:
            assert await anext(changes) == SYNC
            proxy.hang()
            with anyio.fail_after(5):
                await registry.aclose()
            with pytest.raises(Closed):
                await anext(changes)


@pytest.mark.anyio
async def test_a_stranger_that_speaks_tls_is_refused(tls_server: Any, secret: str) -> None:
    async with made(tls_server.address, secret=secret, tls_server_name="somebody-else") as registry:
        with pytest.raises(RegistryError, match="TLS"):
            await registry.register(GREETER)


def test_the_secret_is_shown_nowhere(secret: str) -> None:
    assert secret not in repr(made("127.0.0.1:7400", secret=secret))


def test_clear_text_stays_within_this_machine_where_the_settings_say_so() -> None:
    with pytest.raises(ConfigError, match="clear text"):
        made("192.0.2.1:7400", tls=Tls(require=True))
    made("127.0.0.1:7400", tls=Tls(require=True))


def test_it_needs_one_address() -> None:
    with pytest.raises(ConfigError, match="the one address of its server"):
        make_part("registry", "roster", {}, tls=Tls())
