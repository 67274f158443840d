"""Keeping records in a registry that forgets, fails, hangs and comes back."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

import anyio
import pytest
from msgspec.structs import replace

from micro_core import SYNC, Change, ChangeKind, Client, ConfigError, Node, Record, RegistryError, registrar
from micro_core._app import assembly
from micro_core.builtin.memory.network import MemoryNetwork
from micro_core.builtin.memory.registry import MemoryRegistry
from micro_core.builtin.registry_static import StaticRegistry
from micro_core.registrar import Registrar
from micro_core.testing import world

pytestmark = pytest.mark.anyio

GREETER = Record(name="greeter", version="1", nodes=(Node(id="n1", address="10.0.0.1:80"),))
PATIENCE = 10
SLACK = 0.5
"""Seconds that a machine may be busy with other things."""


class Troubled(MemoryRegistry):
    """The memory registry, whose ``trouble`` is raised by everything; a hanging one does not even do that."""

    def __init__(self, network: MemoryNetwork | None = None) -> None:
        super().__init__(network=network or MemoryNetwork())
        self.trouble: Exception | None = None
        self.hangs = False
        self.forgets_at_once = False
        self.refuses_watches = False
        self.registered = 0
        self._changed = anyio.Event()

    async def register(self, record: Record, *, ttl: float = 60.0) -> None:
        await self._suffer()
        await super().register(record, ttl=ttl)
        if self.forgets_at_once:
            await anyio.wait_all_tasks_blocked()
            self.forget()
        self.registered += 1
        self._changed.set()
        self._changed = anyio.Event()

    async def deregister(self, record: Record) -> None:
        await self._suffer()
        await super().deregister(record)

    async def _suffer(self) -> None:
        if self.hangs:
            await anyio.sleep_forever()
        if self.trouble:
            raise self.trouble

    def watch(self, name: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        return self._troubled(super().watch(name))

    @asynccontextmanager
    async def _troubled(
        self, watch: AbstractAsyncContextManager[AsyncIterator[Change]]
    ) -> AsyncIterator[AsyncIterator[Change]]:
        await self._suffer()
        if self.refuses_watches:
            raise RegistryError("refused")
        async with watch as changes:
            yield changes

    async def until_registered(self, times: int) -> None:
        """Wait until something was registered so many times, all in all."""
        with anyio.fail_after(PATIENCE):
            while self.registered < times:
                await self._changed.wait()


async def test_what_a_registry_forgets_is_back_within_a_second(caplog: pytest.LogCaptureFixture) -> None:
    async with Troubled() as registry, Registrar(registry) as keeper:
        await keeper.register(GREETER)
        await anyio.wait_all_tasks_blocked()
        for times in (2, 3):
            registry.forget()
            with anyio.fail_after(1 + SLACK):
                await registry.until_registered(times)
            assert await registry.lookup("greeter") == [GREETER]
    assert [line for line in caplog.messages if "lost" in line] == [
        "registry memory has lost greeter: registering it again"
    ] * 2


async def test_the_seventh_loss_is_mended_as_soon_as_the_first() -> None:
    async with Troubled() as registry, Registrar(registry, random=lambda: 1.0) as keeper:
        await keeper.register(GREETER)
        await anyio.wait_all_tasks_blocked()
        for times in range(2, 9):
            registry.forget()
            before = anyio.current_time()
            await registry.until_registered(times)
            assert anyio.current_time() - before < 1.0 + SLACK


async def test_a_registry_that_loses_at_once_each_time_is_not_stormed() -> None:
    async with Troubled() as registry, Registrar(registry, random=lambda: 0.0) as keeper:
        registry.forgets_at_once = True
        await keeper.register(GREETER)
        await anyio.sleep(1.2)
        assert 1 < registry.registered <= 4


async def test_nothing_is_said_to_be_registered_again_before_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro.registry")
    async with Troubled() as registry, Registrar(registry) as keeper:
        await keeper.register(GREETER)
        await anyio.wait_all_tasks_blocked()
        registry.forget()
        await anyio.wait_all_tasks_blocked()
        assert caplog.messages == ["registry memory has lost greeter: registering it again"]
        await registry.until_registered(2)
        await anyio.wait_all_tasks_blocked()
        assert caplog.messages[1:] == ["greeter is registered in registry memory again"]


async def test_two_of_one_id_at_two_versions_replace_each_other_ever_more_seldom() -> None:
    moved = replace(GREETER, version="2", nodes=(Node(id="n1", address="10.0.0.2:80"),))
    network = MemoryNetwork()
    async with Troubled(network) as one, Troubled(network) as two:
        async with Registrar(one, random=lambda: 1.0) as first, Registrar(two, random=lambda: 1.0) as second:
            await first.register(GREETER)
            await second.register(moved)
            await anyio.sleep(5)
            assert one.registered + two.registered <= 5  # 13 without: each waits for 0.75 s
            await second.deregister(moved)
            with anyio.fail_after(PATIENCE):
                while await one.lookup("greeter") != [GREETER]:
                    await one.until_registered(one.registered + 1)


async def test_data_that_was_lost_before_a_watch_told_of_it_is_registered_again() -> None:
    async with Troubled() as registry, Registrar(registry, random=lambda: 1.0) as keeper:
        registry.refuses_watches = True
        await keeper.register(GREETER)
        await anyio.wait_all_tasks_blocked()
        registry.forget()
        registry.refuses_watches = False
        with anyio.fail_after(PATIENCE):
            await registry.until_registered(2)


async def test_a_record_that_is_taken_back_is_not_lost() -> None:
    async with Troubled() as registry, Registrar(registry, random=lambda: 0.0) as keeper:
        await keeper.register(GREETER)
        await anyio.wait_all_tasks_blocked()
        await keeper.deregister(GREETER)
        await anyio.sleep(0.05)
        assert (await registry.lookup("greeter"), registry.registered) == ([], 1)


async def test_leaving_takes_back_what_is_left() -> None:
    async with Troubled() as registry:
        async with Registrar(registry) as keeper:
            await keeper.register(GREETER)
        assert await registry.lookup("greeter") == []


@pytest.mark.parametrize("trouble", [RegistryError("refused"), OSError("leaked"), ExceptionGroup("", [ValueError()])])
async def test_renewing_goes_on_whatever_a_registry_raises(
    trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "micro.registry")
    async with Troubled() as registry, Registrar(registry, interval=0.02) as keeper:
        await keeper.register(GREETER)
        registry.trouble = trouble
        await anyio.sleep(0.1)
        registry.trouble = None
        await registry.until_registered(registry.registered + 2)
    told = [line for line in caplog.messages if line.startswith("greeter")]
    assert told[0].startswith("greeter is not registered in registry memory, next try in 0.0 s: ")
    assert told[-1] == "greeter is registered in registry memory again"


async def test_a_registry_that_was_down_at_the_start_has_the_record_as_soon_as_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registrar, "FIRST_PAUSE", 1000.0)
    async with Troubled() as registry, Registrar(registry, interval=1000, random=lambda: 1.0) as keeper:
        registry.trouble = RegistryError("refused")
        await keeper.register(GREETER)
        assert repr(keeper) == "<Registrar at memory, 1 records, 1 not registered>"
        registry.trouble = None
        await registry.until_registered(1)


async def test_a_registry_that_hangs_holds_neither_start_nor_end_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registrar, "ANSWER_SECONDS", 0.05)
    async with Troubled() as registry:
        registry.hangs = True
        with anyio.fail_after(PATIENCE):
            async with Registrar(registry) as keeper:
                await keeper.register(GREETER)
        registry.hangs = False
    assert "has not answered" in caplog.messages[0]
    assert caplog.messages[-1] == "greeter could not be taken back: registry memory hangs"


@pytest.mark.parametrize("error", [RegistryError("wrong password", permanent=True), ConfigError("too long")])
async def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception) -> None:
    async with Troubled() as registry, Registrar(registry) as keeper:
        registry.trouble = error
        with pytest.raises(type(error)):
            await keeper.register(GREETER)
        registry.trouble = None


async def test_registering_again_takes_the_place_of_the_record_before() -> None:
    moved = replace(GREETER, version="2", nodes=(Node(id="n1", address="10.0.0.2:80"),))
    async with Troubled() as registry, Registrar(registry, interval=0.02) as keeper:
        await keeper.register(GREETER)
        await keeper.register(moved)
        await anyio.sleep(0.1)
        assert await registry.lookup("greeter") == [moved]


async def test_two_processes_of_one_id_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Troubled() as registry, MemoryRegistry(network=registry.network) as other:
        async with Registrar(registry) as keeper:
            await keeper.register(GREETER)
            await other.register(replace(GREETER, nodes=(Node(id="n1", address="10.0.0.2:80"),)))
            await anyio.wait_all_tasks_blocked()
    assert caplog.messages == ["node n1 of greeter is announced at 10.0.0.2:80 by another process: two have one id"]


async def test_a_registry_that_shows_no_registrations_has_lost_none(caplog: pytest.LogCaptureFixture) -> None:
    async with StaticRegistry([]) as registry, Registrar(registry, random=lambda: 0.0) as keeper:
        await keeper.register(GREETER)
        await anyio.sleep(0.05)
    assert caplog.messages == []


class HangsWhen(MemoryRegistry):
    """Opens or closes for ever."""

    def __init__(self, moment: str) -> None:
        super().__init__(network=MemoryNetwork())
        self._moment = moment

    async def __aenter__(self) -> Self:
        if self._moment == "opening":
            await anyio.sleep_forever()
        return self

    async def aclose(self) -> None:
        if self._moment == "closing":
            await anyio.sleep_forever()
        await super().aclose()


async def test_a_registry_that_hangs_when_it_is_opened_stops_the_start_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assembly, "REGISTRY_SECONDS", 0.05)
    with anyio.fail_after(PATIENCE), pytest.raises(RegistryError, match="registry memory was not opened within"):
        async with Client(registry=HangsWhen("opening"), transport="memory"):
            pass


async def test_a_registry_that_hangs_when_it_is_closed_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(assembly, "REGISTRY_SECONDS", 0.05)
    with anyio.fail_after(PATIENCE):
        async with Client(registry=HangsWhen("closing"), transport="memory"):
            pass
    assert caplog.messages == ["registry memory was not closed within 0 s: it is left"]


async def test_services_of_an_emptied_registry_can_be_called_within_a_second() -> None:
    async with world() as here, here.service("greeter", linger=0) as greeter, here.client() as client:
        assert await client.call("greeter", "Debug.Health", {}, dict) == {"status": "ok"}
        MemoryRegistry(network=here.network).forget()
        with anyio.fail_after(1):
            assert await client.call("greeter", "Debug.Health", {}, dict) == {"status": "ok"}
        assert greeter.node.id


class BreaksDown(MemoryRegistry):
    """Its first watch breaks when told so, and the next ones tell that there is nothing."""

    def __init__(self, network: MemoryNetwork) -> None:
        super().__init__(network=network)
        self.breaks = anyio.Event()
        self.told_empty = anyio.Event()

    async def services(self) -> list[str]:
        return []

    @asynccontextmanager
    async def _watch(self, name: str | None) -> AsyncIterator[AsyncIterator[Change]]:
        async with super()._watch(name) as found:
            yield self._emptied() if self.breaks.is_set() else self._breaking(found)

    async def _breaking(self, found: AsyncIterator[Change]) -> AsyncGenerator[Change]:
        async for change in found:
            yield change
            if change.kind is ChangeKind.SYNC:
                await self.breaks.wait()
                raise RegistryError("killed")

    async def _emptied(self) -> AsyncGenerator[Change]:
        yield SYNC
        self.told_empty.set()
        await anyio.sleep_forever()


async def test_no_call_fails_while_a_registry_breaks_down_and_comes_back_empty() -> None:
    async with world() as here, here.service("greeter", linger=0):
        registry = BreaksDown(here.network)
        async with here.client(registry=registry, client="rpc://?lookup_timeout=50ms") as client:
            assert await client.call("greeter", "Debug.Health", {}, dict) == {"status": "ok"}
            registry.breaks.set()
            with anyio.fail_after(PATIENCE):
                await registry.told_empty.wait()
            for _ in range(3):
                assert await client.call("greeter", "Debug.Health", {}, dict) == {"status": "ok"}
                await anyio.sleep(0.05)


async def test_an_address_that_has_changed_is_told_at_the_next_renewal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "micro.registry")
    moved = replace(GREETER, nodes=(replace(GREETER.nodes[0], address="10.0.0.9:80"),))
    now = [GREETER]
    async with Troubled() as registry, Registrar(registry, interval=0.02) as keeper:
        await keeper.register(GREETER, lambda: now[0])
        assert await registry.lookup("greeter") == [GREETER]
        now[0] = moved
        await registry.until_registered(registry.registered + 2)
        assert await registry.lookup("greeter") == [moved]
    assert f"greeter is at 10.0.0.9:80 now, no longer at {GREETER.nodes[0].address}" in caplog.messages
