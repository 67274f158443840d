"""Contracts: what an implementation inherits, what it has to implement, and the proxies made from either."""

from __future__ import annotations

import gc
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest

from micro_core import ConfigError, Conflict, Context, Topic, current_context, endpoint, idempotent, with_options
from micro_core._app.contract import handlers_of
from micro_core.testing import World, world

pytestmark = pytest.mark.anyio


class Full(Conflict):
    pass


class Shelf(Protocol):
    @idempotent
    @endpoint(name="Fetch", errors=[Full], metadata={"owner": "books"})
    async def load(self, title: str) -> str:
        """Load a book."""
        ...

    def titles(self) -> AsyncIterator[str]: ...

    async def size(self) -> int:
        return 0


class Drawer(Shelf):
    async def load(self, title: str) -> str:
        return f"{title} of {headers_of('Owner')}"

    @endpoint(metadata={"slow": "yes"})
    async def titles(self) -> AsyncIterator[str]:
        yield "Emma"


def headers_of(name: str) -> str | None:
    context = current_context()
    return context.metadata.get(name) if context else None


def drawers(here: World) -> Any:
    service = here.service("shelf", linger=0)
    service.handler(name="Shelf")(Drawer)
    return service


async def test_marks_of_a_contract_hold_for_what_implements_it() -> None:
    load, size, titles = sorted(handlers_of(Drawer()), key=lambda handler: handler.name)
    assert (load.name, load.idempotent, load.errors) == ("Drawer.Fetch", True, (Full,))
    assert (load.metadata, load.description) == ({"owner": "books"}, "Load a book.")
    assert (titles.name, titles.metadata) == ("Drawer.Titles", {"slow": "yes"})
    assert size.name == "Drawer.Size"


async def test_a_proxy_of_a_contract_calls_what_implements_it() -> None:
    async with world() as here, drawers(here), here.client() as client:
        shelf = client.proxy("shelf", Shelf)
        assert await shelf.load("Emma") == "Emma of None"
        assert await with_options(shelf, metadata={"Owner": "Ada"}).load("Emma") == "Emma of Ada"
        assert await shelf.load("Emma") == "Emma of None"


async def test_the_name_of_a_class_holds_for_its_instances() -> None:
    @endpoint(name="Books")
    class Other(Drawer):
        pass

    assert {handler.name.partition(".")[0] for handler in handlers_of(Other())} == {"Books"}


class LeavesOutProtocol(Shelf):
    async def titles(self) -> AsyncIterator[str]:
        yield "Emma"


class Plain:
    async def load(self, title: str) -> str:
        raise NotImplementedError

    async def store(self, title: str) -> str:
        raise NotImplementedError("a shelf that can be written")


class LeavesOutPlain(Plain):
    async def load(self, title: str) -> str:
        return title


class Unfinished(LeavesOutPlain):
    async def store(self, title: str) -> str:
        raise NotImplementedError


class Abstract(ABC):
    @abstractmethod
    async def load(self, title: str) -> str: ...


class LeavesOutAbstract(Abstract):
    pass


class LeavesOutStream(Protocol):
    def titles(self) -> AsyncIterator[str]: ...


class Streams(LeavesOutStream):
    pass


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (LeavesOutProtocol, "LeavesOutProtocol does not implement load, which its contract Shelf asks for"),
        (LeavesOutPlain, "LeavesOutPlain does not implement store, which its contract Plain asks for"),
        (Unfinished, "Unfinished does not implement store: write it"),
        (LeavesOutAbstract, "LeavesOutAbstract does not implement load"),
        (Streams, "Streams does not implement titles, which its contract LeavesOutStream asks for"),
        (Shelf, "Shelf is a Protocol: register a class that implements it"),
    ],
)
async def test_what_a_contract_asks_for_and_nobody_wrote_stops_the_start(contract: type, said: str) -> None:
    async with world() as here:
        with pytest.raises(ConfigError) as raised:
            here.service("shelf").handler(contract)
    assert raised.value.detail.startswith(said)


async def test_a_method_that_does_nothing_is_one_all_the_same() -> None:
    class Health:
        async def ping(self) -> None:
            """Say that we live."""

        async def tell(self, context: Context) -> str:
            if context.remote:
                raise NotImplementedError
            return "yes"

    assert [handler.name for handler in handlers_of(Health())] == ["Health.Ping", "Health.Tell"]


async def test_a_class_is_read_once_and_proxies_are_made_from_it() -> None:
    async with world() as here, here.client() as client:
        assert type(client.proxy("a", Drawer)) is type(client.proxy("b", Drawer, timeout=1))
        assert repr(client.proxy("a", Drawer)) == "<DrawerProxy of 'a'>"


async def test_a_class_made_at_run_time_is_forgotten_with_its_proxies() -> None:
    async with world() as here, here.client() as client:
        made = type("Made", (), {"load": Drawer.load})
        client.proxy("a", made)
        kept = weakref.ref(made)
        del made
        gc.collect()
        assert kept() is None


@pytest.mark.parametrize("wrong", [Drawer(), "Drawer", None, lambda: None])
async def test_a_proxy_of_no_class_is_refused(wrong: Any) -> None:
    async with world() as here, here.client() as client:
        with pytest.raises(ConfigError, match="a proxy is made of a handler's class"):
            client.proxy("a", wrong)


async def test_options_of_what_is_no_proxy_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"what client.proxy returned, not an object of type Drawer"):
        with_options(Drawer(), timeout=1)


ORDERS = Topic("orders", dict[str, int])


async def test_a_topic_gives_its_name_and_type_to_publishers_and_subscribers() -> None:
    received: list[Any] = []
    async with world() as here:
        service = here.service("shop", linger=0)

        @service.subscriber(ORDERS)
        async def untyped(order) -> None:  # type: ignore[no-untyped-def]
            received.append(order)

        @service.subscriber(ORDERS, queue="shipping", retries=0)
        async def typed(order: dict[str, int], context: Context) -> None:
            received.append((context.endpoint, order))

        async with service, here.client() as client:
            await client.publish(ORDERS, {"tea": 1}, confirm=True)
    assert sorted(received, key=str) == [("orders", {"tea": 1}), {"tea": 1}]


async def test_a_subscriber_of_other_messages_than_the_topics_is_refused() -> None:
    async with world() as here:
        service = here.service("shop")

        async def ship(order: str) -> None: ...

        with pytest.raises(ConfigError, match=r"ship takes <class 'str'>: not what Topic\('orders', .*\) holds"):
            service.subscriber(ORDERS)(ship)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="no option 'que'; did you mean 'queue'"):
            service.subscriber("orders", que="x")(ship)  # type: ignore[call-overload]
